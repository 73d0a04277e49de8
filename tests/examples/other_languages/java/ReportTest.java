// A server writes a report each night.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.*;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

class ReportTest {
    static String send(HttpRequest.Builder request) throws Exception {
        var answer = HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofString());
        if (answer.statusCode() != 200) throw new AssertionError(answer.body());
        return answer.body();
    }

    public static void main(String[] args) throws Exception {
        var reports = new AtomicInteger();
        var nightly = Executors.newScheduledThreadPool(1);
        nightly.scheduleAtFixedRate(reports::incrementAndGet, 1, 1, TimeUnit.DAYS);
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, 0);
            exchange.getResponseBody().write(reports.toString().getBytes());
            exchange.close();
        });
        server.start();

        var clock = URI.create("http://" + System.getenv("VDSOTIME_CONTROL") + "/advance");
        send(HttpRequest.newBuilder(clock)
            .header("Authorization", "Bearer " + System.getenv("VDSOTIME_TOKEN"))
            .POST(BodyPublishers.ofString("{\"days\": 30, \"stride\": \"6h\"}")));

        var found = send(HttpRequest.newBuilder(URI.create("http:/" + server.getAddress())));
        if (!found.equals("30")) throw new AssertionError(found + " reports");
        System.exit(0);
    }
}
