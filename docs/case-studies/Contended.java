import java.util.ArrayList;

/** Four threads that share a monitor: each holds it while it sleeps. */
public class Contended {
    private static final Object MONITOR = new Object();

    public static void main(String[] args) throws Exception {
        long until = System.nanoTime() + Long.parseLong(args[0]) * 1_000_000L;
        var threads = new ArrayList<Thread>();
        for (int i = 0; i < 4; i++) {
            var thread = new Thread(() -> {
                while (System.nanoTime() < until) {
                    synchronized (MONITOR) {
                        try {
                            Thread.sleep(20);
                        } catch (InterruptedException e) {
                            return;
                        }
                    }
                }
            }, "worker-" + i);
            threads.add(thread);
            thread.start();
        }
        for (var thread : threads) {
            thread.join();
        }
    }
}
