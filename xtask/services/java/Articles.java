import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPOutputStream;

/** An HTTP server on the JVM: pages that are packed by zlib, and JSON through a direct buffer, by a pool of threads. */
public final class Articles {
    record Article(int id, String title, String body) {}

    private static final List<Article> ARTICLES = new ArrayList<>();
    private static final AtomicInteger REQUESTS = new AtomicInteger();

    private static List<Article> some() {
        int start = Math.floorMod(REQUESTS.getAndAdd(7), 480);
        return ARTICLES.subList(start, start + 20);
    }

    private static void page(HttpExchange exchange) throws IOException {
        StringBuilder page = new StringBuilder("<!doctype html><title>Articles</title>");
        for (Article article : some()) {
            page.append("<h2>").append(article.title()).append("</h2><p>").append(article.body()).append("</p>");
        }
        ByteArrayOutputStream packed = new ByteArrayOutputStream();
        try (GZIPOutputStream out = new GZIPOutputStream(packed)) {
            out.write(page.toString().getBytes(StandardCharsets.UTF_8));
        }
        exchange.getResponseHeaders().set("Content-Encoding", "gzip");
        exchange.sendResponseHeaders(200, packed.size());
        packed.writeTo(exchange.getResponseBody());
        exchange.close();
    }

    private static void api(HttpExchange exchange) throws IOException {
        StringBuilder json = new StringBuilder("[");
        for (Article article : some()) {
            json.append(json.length() > 1 ? "," : "").append("{\"id\":").append(article.id());
            json.append(",\"title\":\"").append(article.title()).append("\",\"body\":\"").append(article.body()).append("\"}");
        }
        byte[] body = json.append(']').toString().getBytes(StandardCharsets.UTF_8);
        ByteBuffer direct = ByteBuffer.allocateDirect(body.length).put(body).flip();
        exchange.sendResponseHeaders(200, body.length);
        Channels.newChannel(exchange.getResponseBody()).write(direct);
        exchange.close();
    }

    public static void main(String[] arguments) throws IOException {
        for (int id = 0; id < 500; id++) {
            ARTICLES.add(new Article(id, "Article " + id, ("Text of article " + id + ". ").repeat(40)));
        }
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", Articles::page);
        server.createContext("/api", Articles::api);
        server.start();
    }
}
