"""Microsoft Defender XDR: KQL for custom detections."""
