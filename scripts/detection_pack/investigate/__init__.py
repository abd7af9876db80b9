"""What an export says of one account: the first questions after an alert."""
