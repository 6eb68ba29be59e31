package contract;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** The contract suite's handler in Java; app.js and APP in cases.py do the same. */
public class Handler implements RequestHandler<Object, Object> {
    private static final List<byte[]> HELD = new ArrayList<>();

    static class Unserialisable {
        public Object getValue() {
            throw new IllegalStateException("no JSON");
        }
    }

    public Handler() {
        String atInit = System.getenv().getOrDefault("AT_INIT", "");
        if (atInit.equals("raise")) throw new IllegalArgumentException("at init é");
        if (atInit.equals("exit")) Runtime.getRuntime().halt(7);
    }

    @Override
    public Object handleRequest(Object event, Context context) {
        Object wanted = event instanceof Map ? ((Map<?, ?>) event).get("do") : null;
        try {
            return wanted == null ? event : run((String) wanted, (Map<?, ?>) event, context);
        } catch (IOException | InterruptedException error) {
            throw new RuntimeException(error);
        }
    }

    private static int number(Map<?, ?> event, String name) {
        return ((Number) event.get(name)).intValue();
    }

    private static Object run(String wanted, Map<?, ?> event, Context context)
            throws IOException, InterruptedException {
        Path temporary = Path.of(System.getProperty("java.io.tmpdir"), "kept");
        switch (wanted) {
            case "raise": throw new IllegalArgumentException("boom é");
            case "unserialisable": return new Unserialisable();
            case "exit": Runtime.getRuntime().halt(number(event, "status")); break;
            case "signal":
                new ProcessBuilder("kill", "-" + event.get("number"), "" + ProcessHandle.current().pid()).start();
                Thread.sleep(600_000);
                break;
            case "sleep": Thread.sleep(600_000); break;
            case "hold": for (;;) {
                byte[] block = new byte[1 << 20];
                Arrays.fill(block, (byte) 1);
                HELD.add(block);
                Thread.sleep(2);
            }
            case "size": return "x".repeat(number(event, "count"));
            case "length": return ((String) event.get("text")).length();
            case "print": System.out.println(event.get("text")); System.err.println("on error"); return null;
            case "print-unended": System.out.print("no end of line"); System.out.flush(); return null;
            case "flood": {
                String line = "x".repeat(999);
                for (int n = 0; n < number(event, "lines"); n++) System.out.println(line);
                return null;
            }
            case "env": return System.getenv((String) event.get("name"));
            case "trace": return System.getProperty("com.amazonaws.xray.traceHeader");
            case "pid": return ProcessHandle.current().pid();
            case "child": return new ProcessBuilder("sleep", "600").start().pid();
            case "thread": {
                Thread thread = new Thread(() -> { for (;;) { try { Thread.sleep(50); } catch (InterruptedException e) { } } });
                thread.start();
                return null;
            }
            case "write": Files.writeString(temporary, (String) event.get("text")); return temporary.toString();
            case "read": return Files.exists(temporary) ? Files.readString(temporary) : null;
            case "data": return Files.readString(Path.of("data.txt"));
            case "program": {
                Process process = new ProcessBuilder("of-the-layer").start();
                return new String(process.getInputStream().readAllBytes());
            }
            case "left": return context.getRemainingTimeInMillis();
            case "client": return context.getClientContext() == null ? null : context.getClientContext().getCustom();
            case "context":
                return List.of(context.getAwsRequestId(), context.getFunctionName(), context.getInvokedFunctionArn(),
                    context.getMemoryLimitInMB(), context.getFunctionVersion(), context.getLogGroupName());
            default: break;
        }
        return null;
    }
}
