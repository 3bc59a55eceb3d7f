import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.concurrent.atomic.AtomicLong;

/** Threads that share a monitor: each holds it while it sleeps for 5 ms. */
public class Monitor {
    private static final Object MONITOR = new Object();

    public static void main(String[] args) throws Exception {
        var bean = ManagementFactory.getThreadMXBean();
        bean.setThreadContentionMonitoringEnabled(true);
        long until = System.nanoTime() + Long.parseLong(args[1]) * 1_000_000L;
        var threads = new ArrayList<Thread>();
        var all = new AtomicLong();
        var longest = new AtomicLong();
        for (int i = 0; i < Integer.parseInt(args[0]); i++) {
            var thread = new Thread(() -> {
                while (System.nanoTime() < until) {
                    synchronized (MONITOR) {
                        try {
                            Thread.sleep(5);
                        } catch (InterruptedException e) {
                            return;
                        }
                    }
                }
                long ms = bean.getThreadInfo(Thread.currentThread().getId()).getBlockedTime();
                all.addAndGet(ms);
                longest.accumulateAndGet(ms, Math::max);
            }, "worker-" + i);
            threads.add(thread);
            thread.start();
        }
        for (var thread : threads) {
            thread.join();
        }
        System.out.println("blocked_ms=" + all.get() + " longest_ms=" + longest.get());
    }
}
