import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;

import org.apache.lucene.analysis.core.KeywordAnalyzer;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.StringField;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.Term;
import org.apache.lucene.queryparser.classic.ParseException;
import org.apache.lucene.queryparser.classic.QueryParser;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.MatchAllDocsQuery;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.store.ByteBuffersDirectory;

/**
 * Judges Lucene query strings with Lucene's own classic parser and index, over keyword fields.
 *
 * <p>Elasticsearch's query_string is a subclass of this same parser (QueryStringQueryParser). What it changes is
 * repeated here where a keyword field can show it: _exists_, {@code field:*}, {@code *:*}, field name patterns,
 * {@code field:>=x}, queries that only negate, and the limits on regular expressions.
 *
 * <p>What is not modelled: text fields and their analysers, normalizers, ignore_above, and the type of a number,
 * date or address field. A range needs that type, so it parses but is refused in execution.
 *
 * <p>Protocol, one line each, columns separated by tabs, every column after the first in base64 of UTF-8:
 * <pre>
 * in   document id                     a document that may have no field
 *      value    id field value         one value of one field
 *      query    name text
 * out  hits     name id id ...         parse: no ids
 *      error    name message
 * </pre>
 * The argument is "parse" or "execute".
 */
public final class LuceneJudge {
    // index.max_regex_length and Operations.DEFAULT_MAX_DETERMINIZED_STATES, Elasticsearch's defaults.
    private static final int MAX_REGEX_LENGTH = 1000;
    private static final int MAX_DETERMINIZED_STATES = 10_000;

    private static final String ID = "_id";
    private static final String EXISTS = "_exists_";
    private static final String FIELD_NAMES = "_field_names";

    public static void main(String[] arguments) throws IOException {
        boolean execute = arguments[0].equals("execute");
        Map<String, Document> documents = new LinkedHashMap<>();
        Map<String, String> queries = new LinkedHashMap<>();
        Set<String> fields = new TreeSet<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] columns = line.split("\t", -1);
            for (int i = 1; i < columns.length; i++) {
                columns[i] = new String(Base64.getDecoder().decode(columns[i]), StandardCharsets.UTF_8);
            }
            switch (columns[0]) {
                case "document" -> documents.put(columns[1], document(columns[1]));
                case "value" -> {
                    fields.add(columns[2]);
                    addValue(documents.get(columns[1]), columns[2], columns[3]);
                }
                case "query" -> queries.put(columns[1], columns[2]);
                default -> throw new IOException("unknown line: " + columns[0]);
            }
        }
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        try (DirectoryReader reader = DirectoryReader.open(index(documents.values()))) {
            IndexSearcher searcher = new IndexSearcher(reader);
            for (Map.Entry<String, String> query : queries.entrySet()) {
                out.println(judge(query.getKey(), query.getValue(), execute, fields, searcher));
            }
        }
        out.flush();
    }

    private static String judge(String name, String text, boolean execute, Set<String> fields, IndexSearcher searcher) {
        List<String> answer = new ArrayList<>();
        try {
            Query query = new KeywordQueryParser(fields, execute).parse(text);
            answer.add(name);
            if (execute) {
                for (ScoreDoc hit : searcher.search(query, Integer.MAX_VALUE).scoreDocs) {
                    answer.add(searcher.doc(hit.doc).get(ID));
                }
            }
            return line("hits", answer);
        } catch (ParseException | RuntimeException | IOException error) {
            // A regular expression that is malformed or too complex comes as a RuntimeException.
            return line("error", List.of(name, String.valueOf(error.getMessage()).strip()));
        }
    }

    private static String line(String kind, List<String> columns) {
        StringBuilder line = new StringBuilder(kind);
        for (String column : columns) {
            byte[] bytes = column.getBytes(StandardCharsets.UTF_8);
            line.append('\t').append(Base64.getEncoder().encodeToString(bytes));
        }
        return line.toString();
    }

    private static Document document(String id) {
        Document document = new Document();
        document.add(new StringField(ID, id, Field.Store.YES));
        return document;
    }

    private static void addValue(Document document, String field, String value) {
        document.add(new StringField(field, value, Field.Store.NO));
        // An object exists where any field below it does: a.b.c makes a, a.b and a.b.c exist.
        for (int dot = field.indexOf('.'); dot >= 0; dot = field.indexOf('.', dot + 1)) {
            document.add(new StringField(FIELD_NAMES, field.substring(0, dot), Field.Store.NO));
        }
        document.add(new StringField(FIELD_NAMES, field, Field.Store.NO));
    }

    private static ByteBuffersDirectory index(Iterable<Document> documents) throws IOException {
        ByteBuffersDirectory directory = new ByteBuffersDirectory();
        try (IndexWriter writer = new IndexWriter(directory, new IndexWriterConfig(new KeywordAnalyzer()))) {
            writer.addDocuments(documents);
        }
        return directory;
    }

    /** The classic parser with what QueryStringQueryParser adds to it. */
    private static final class KeywordQueryParser extends QueryParser {
        private final Set<String> fields;
        private final boolean execute;

        KeywordQueryParser(Set<String> fields, boolean execute) {
            super("*", new KeywordAnalyzer()); // index.query.default_field: a bare term searches every field
            this.fields = fields;
            this.execute = execute;
            setAllowLeadingWildcard(true);
            setMaxDeterminizedStates(MAX_DETERMINIZED_STATES);
            // setLowercaseExpandedTerms is gone since Lucene 7: nothing folds case on a keyword field.
        }

        private interface Builder {
            Query build(String field) throws ParseException;
        }

        /** One field as it is; a pattern, `o365.audit.Parameters.\*:x`, as any of the fields that it names. */
        private Query each(String field, Builder builder) throws ParseException {
            if (!field.contains("*")) {
                return builder.build(field);
            }
            // Built even when no field has such a name, so that a bad clause is an error on an empty index too.
            Query sample = builder.build(field);
            if (sample == null) {
                return null;
            }
            Pattern pattern = Pattern.compile(Pattern.quote(field).replace("*", "\\E.*\\Q"));
            BooleanQuery.Builder any = new BooleanQuery.Builder();
            for (String name : fields) {
                if (pattern.matcher(name).matches()) {
                    any.add(builder.build(name), BooleanClause.Occur.SHOULD);
                }
            }
            return any.build();
        }

        private static Query exists(String field) {
            return new TermQuery(new Term(FIELD_NAMES, field));
        }

        @Override
        public Query parse(String text) throws ParseException {
            // The classic parser calls an empty text an error; query_string finds nothing.
            return text.isBlank() ? new MatchNoDocsQuery("no terms") : super.parse(text);
        }

        @Override
        protected Query getFieldQuery(String field, String text, boolean quoted) throws ParseException {
            if (field.equals(EXISTS)) {
                return each(text, LuceneJudge.KeywordQueryParser::exists);
            }
            // `field:>=x`: the classic grammar has no such operator and would search for the term ">=x".
            if (!quoted && text.length() > 1 && (text.charAt(0) == '>' || text.charAt(0) == '<')) {
                return getRangeQuery(field, text, null, true, true);
            }
            return each(field, name -> super.getFieldQuery(name, text, quoted));
        }

        @Override
        protected Query getFieldQuery(String field, String text, int slop) throws ParseException {
            // Slop between the words of a phrase means nothing on a keyword, which holds the phrase as one term.
            return getFieldQuery(field, text, true);
        }

        @Override
        protected Query getWildcardQuery(String field, String text) throws ParseException {
            if (text.equals("*")) {
                return field.equals("*") ? new MatchAllDocsQuery() : each(field, LuceneJudge.KeywordQueryParser::exists);
            }
            return each(field, name -> super.getWildcardQuery(name, text));
        }

        @Override
        protected Query getPrefixQuery(String field, String text) throws ParseException {
            return each(field, name -> super.getPrefixQuery(name, text));
        }

        @Override
        protected Query getFuzzyQuery(String field, String text, float similarity) throws ParseException {
            return each(field, name -> super.getFuzzyQuery(name, text, similarity));
        }

        @Override
        protected Query getRangeQuery(String field, String from, String to, boolean fromIncluded, boolean toIncluded)
                throws ParseException {
            if (execute) {
                throw new ParseException("a range on " + field + " depends on the type of the field: not supported");
            }
            return new MatchNoDocsQuery("range");
        }

        @Override
        protected Query getRegexpQuery(String field, String text) throws ParseException {
            if (text.length() > MAX_REGEX_LENGTH) {
                throw new ParseException(
                        "a regular expression of " + text.length() + " characters: the limit is " + MAX_REGEX_LENGTH);
            }
            // RegexpQuery takes RegExp.ALL and determinises at once, so a too complex one fails here.
            return each(field, name -> super.getRegexpQuery(name, text));
        }

        @Override
        protected Query getBooleanQuery(List<BooleanClause> clauses) throws ParseException {
            // Lucene finds nothing for clauses that only negate; Elasticsearch subtracts them from everything.
            Query query = super.getBooleanQuery(clauses);
            if (query == null || clauses.isEmpty() || !clauses.stream().allMatch(BooleanClause::isProhibited)) {
                return query;
            }
            BooleanQuery.Builder all = new BooleanQuery.Builder();
            all.add(new MatchAllDocsQuery(), BooleanClause.Occur.FILTER);
            clauses.forEach(all::add);
            return all.build();
        }
    }
}
