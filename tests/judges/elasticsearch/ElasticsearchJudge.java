// In this package because the only constructor of Node that takes plugins from the class path is visible here alone.
package org.elasticsearch.node;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

import org.apache.logging.log4j.core.config.Configurator;
import org.apache.logging.log4j.core.config.DefaultConfiguration;
import org.apache.logging.log4j.core.selector.BasicContextSelector;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.LowerCaseFilter;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.Tokenizer;
import org.apache.lucene.analysis.pattern.PatternTokenizer;
import org.elasticsearch.Build;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.http.HttpServerTransport;
import org.elasticsearch.index.analysis.AnalyzerProvider;
import org.elasticsearch.index.analysis.AnalyzerScope;
import org.elasticsearch.index.mapper.KeywordFieldMapper;
import org.elasticsearch.index.mapper.Mapper;
import org.elasticsearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.elasticsearch.plugins.AnalysisPlugin;
import org.elasticsearch.plugins.MapperPlugin;
import org.elasticsearch.plugins.MockPluginsService;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.plugins.PluginsLoader;
import org.elasticsearch.plugins.PluginsService;
import org.elasticsearch.transport.netty4.Netty4Plugin;

/**
 * One node of Elasticsearch in this process: its own query parser, mappings, index and aggregations, over HTTP.
 *
 * <p>Usage: {@code java -cp ... org.elasticsearch.node.ElasticsearchJudge FOLDER}. The node keeps everything in FOLDER,
 * listens on a free port of the loopback interface, prints one line, {@code VERSION URL}, on standard output, and ends
 * when its standard input ends or a signal asks it to; so it never outlives the program that started it.
 *
 * <p>Not on Maven Central, and so not here, are the modules of the distribution: ES|QL, {@code bucket_selector},
 * {@code match_only_text}, security, and the field type {@code wildcard}. The last has a stand-in, so that the pack's
 * index mapping is taken as it is: a keyword field without {@code ignore_above} gives the same verdicts to terms,
 * wildcards and regular expressions. It differs in one thing: a value beyond Lucene's longest term, 32,766 bytes of
 * UTF-8, which a real wildcard field takes, makes the node refuse the document ("immense term"). No value is ignored
 * without a word. The {@code pattern} analyzer has a stand-in, too, made of the same parts of Lucene as the module's:
 * {@link PatternTokenizer} and {@link LowerCaseFilter}.
 */
public final class ElasticsearchJudge extends Node {
    private ElasticsearchJudge(Environment environment) {
        super(NodeConstruction.prepareConstruction(environment, null, new ClassPathPlugins(), true));
    }

    /** The test framework's plugin service, which takes plugins from the class path; nothing else is mocked. */
    private static final class ClassPathPlugins extends NodeServiceProvider {
        @Override
        PluginsService newPluginService(Environment environment, PluginsLoader loader) {
            return new MockPluginsService(
                environment.settings(), environment, List.of(Netty4Plugin.class, WildcardStandIn.class, PatternStandIn.class));
        }
    }

    /** The field type {@code wildcard}, as far as keyword can stand for it. */
    public static final class WildcardStandIn extends Plugin implements MapperPlugin {
        @Override
        public Map<String, Mapper.TypeParser> getMappers() {
            return Map.of("wildcard", KeywordFieldMapper.PARSER);
        }
    }

    /** The analyzer {@code pattern} without stop words: what stands between matches, in lower case. */
    public static final class PatternStandIn extends Plugin implements AnalysisPlugin {
        @Override
        public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
            return Map.of("pattern", (index, environment, name, settings) ->
                new PatternProvider(name, Pattern.compile(settings.get("pattern", "\\W+"))));
        }
    }

    private record PatternProvider(String name, Analyzer get) implements AnalyzerProvider<Analyzer> {
        PatternProvider(String name, Pattern separators) {
            this(name, new Analyzer() {
                @Override
                protected TokenStreamComponents createComponents(String field) {
                    Tokenizer words = new PatternTokenizer(separators, -1);
                    return new TokenStreamComponents(words, new LowerCaseFilter(words));
                }

                @Override
                protected TokenStream normalize(String field, TokenStream words) {
                    return new LowerCaseFilter(words);
                }
            });
        }

        @Override
        public AnalyzerScope scope() {
            return AnalyzerScope.INDEX;
        }
    }

    public static void main(String[] arguments) throws Exception {
        // Errors alone, and on standard error: standard output is for the one line.
        PrintStream answer = System.out;
        System.setOut(System.err);
        System.setProperty("log4j2.contextSelector", BasicContextSelector.class.getName());
        Configurator.initialize(new DefaultConfiguration());
        LogConfigurator.configureESLogging();
        Settings settings = Settings.builder()
            .put("path.home", Files.createDirectories(Path.of(arguments[0]).toAbsolutePath()))
            .put("cluster.name", "detection-pack-judge")
            .put("node.name", "judge")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", "0")
            .put("transport.port", "0")
            .put("http.type", "netty4")
            .put("transport.type", "netty4")
            // The folder is temporary: how full its disk is says nothing of the node.
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .build();
        Node node = new ElasticsearchJudge(new Environment(settings, null));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> closed(node)));
        node.start();
        int port = node.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress().getPort();
        answer.println(Build.current().version() + " http://127.0.0.1:" + port);
        answer.flush();
        while (System.in.read() >= 0) {
            // What is written there means nothing; only its end does.
        }
        System.exit(0);
    }

    private static void closed(Node node) {
        try {
            node.close();
        } catch (IOException error) {
            System.err.println(error);
        }
    }
}
