import java.io.IOException;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Java's virtual threads: the peer workloads, each a line "name value unit". Of the same names and
 * sizes as in the Go program.
 *
 * <p>A channel without a buffer is a SynchronousQueue, one with a buffer an ArrayBlockingQueue, and a
 * context is an interrupt, which ends a wait in either. There is no select over two queues, and no tree of
 * contexts. A workload that is measured per operation has run before at a tenth of its size: what
 * the compiler takes to warm up is not compared.
 */
public final class Bench {
    /** The value after the last one of a queue that is not closed otherwise. */
    private static final Integer END = -1;

    /**
     * Thread.startVirtualThread, which a compiler older than 21 does not know. A constant, which the
     * just-in-time compiler calls directly.
     */
    private static final MethodHandle START;

    static {
        try {
            START = MethodHandles.publicLookup().findStatic(
                    Thread.class, "startVirtualThread", MethodType.methodType(Thread.class, Runnable.class));
        } catch (ReflectiveOperationException e) {
            throw new ExceptionInInitializerError(e);
        }
    }

    /** What may be interrupted. */
    private interface Body {
        void run() throws InterruptedException;
    }

    private static Thread go(Body body) {
        Runnable runnable = () -> {
            try {
                body.run();
            } catch (InterruptedException e) {
                // It has been told to end.
            }
        };
        try {
            return (Thread) START.invokeExact(runnable);
        } catch (Throwable e) {
            throw new AssertionError(e);
        }
    }

    private static void report(String name, double value, String unit) {
        System.out.printf(Locale.ROOT, "%s %.2f %s%n", name, value, unit);
    }

    /** A workload of a given number of operations. */
    private interface Operations {
        void run(int n) throws InterruptedException;
    }

    private static void perOp(String name, int n, Operations f) throws InterruptedException {
        f.run(n / 10);
        long start = System.nanoTime();
        f.run(n);
        report(name, (double) (System.nanoTime() - start) / n, "ns/op");
    }

    /** A field of the process's status, in bytes. */
    private static double status(String field) {
        try {
            for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
                if (line.startsWith(field + ":")) {
                    return Double.parseDouble(line.split("\\s+")[1]) * 1024;
                }
            }
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        return 0;
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static long sumBelow(long n) {
        return n * (n - 1) / 2;
    }

    private static void spawn() throws InterruptedException {
        int width = 1000;
        perOp("spawn", 1_000_000, n -> {
            for (int wave = 0; wave < n / width; wave++) {
                CountDownLatch done = new CountDownLatch(width);
                for (int i = 0; i < width; i++) {
                    go(done::countDown);
                }
                done.await();
            }
        });
    }

    private static void spawnJoin() throws InterruptedException {
        perOp("spawn_join", 1_000_000, n -> {
            for (int i = 0; i < n; i++) {
                go(() -> {}).join();
            }
        });
    }

    private static void yield() throws InterruptedException {
        perOp("yield", 4_000_000, n -> {
            CountDownLatch done = new CountDownLatch(2);
            for (int g = 0; g < 2; g++) {
                go(() -> {
                    for (int i = 0; i < n / 2; i++) {
                        Thread.yield();
                    }
                    done.countDown();
                });
            }
            done.await();
        });
    }

    private static void pingpong() throws InterruptedException {
        perOp("pingpong", 1_000_000, n -> {
            BlockingQueue<Integer> a = new SynchronousQueue<>();
            BlockingQueue<Integer> b = new SynchronousQueue<>();
            Thread other = go(() -> {
                while (true) {
                    b.put(a.take());
                }
            });
            for (int i = 0; i < n; i++) {
                a.put(i);
                b.take();
            }
            other.interrupt();
        });
    }

    /** One sender, one receiver. */
    private static void oneToOne(BlockingQueue<Integer> queue, int n) throws InterruptedException {
        go(() -> {
            for (int i = 0; i < n; i++) {
                queue.put(i);
            }
        });
        long sum = 0;
        for (int i = 0; i < n; i++) {
            sum += queue.take();
        }
        check(sum == sumBelow(n), "sum");
    }

    private static void spsc() throws InterruptedException {
        perOp("chan_spsc_128", 10_000_000, n -> oneToOne(new ArrayBlockingQueue<>(128), n));
    }

    private static void unbufferedSpsc() throws InterruptedException {
        perOp("chan_spsc_0", 3_000_000, n -> oneToOne(new SynchronousQueue<>(), n));
    }

    private static void mpmc() throws InterruptedException {
        int p = 4;
        perOp("chan_mpmc_4x4_128", 4_000_000, n -> {
            BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(128);
            CountDownLatch sent = new CountDownLatch(p);
            CountDownLatch received = new CountDownLatch(p);
            for (int g = 0; g < p; g++) {
                go(() -> {
                    for (int i = 0; i < n / p; i++) {
                        queue.put(i);
                    }
                    sent.countDown();
                });
                go(() -> {
                    long sum = 0;
                    for (Integer v = queue.take(); v >= 0; v = queue.take()) {
                        sum += v;
                    }
                    check(sum >= 0, "sum");
                    received.countDown();
                });
            }
            sent.await();
            for (int g = 0; g < p; g++) {
                queue.put(END);
            }
            received.await();
        });
    }

    private static void fanin() throws InterruptedException {
        int p = 100;
        perOp("fanin_100_0", 2_000_000, n -> {
            BlockingQueue<Integer> queue = new SynchronousQueue<>();
            for (int g = 0; g < p; g++) {
                go(() -> {
                    for (int i = 0; i < n / p; i++) {
                        queue.put(i);
                    }
                });
            }
            for (int i = 0; i < n; i++) {
                queue.take();
            }
        });
    }

    private static int counter;

    private static void mutexUncontended() throws InterruptedException {
        perOp("mutex_uncontended", 50_000_000, n -> {
            ReentrantLock lock = new ReentrantLock();
            for (int i = 0; i < n; i++) {
                lock.lock();
                counter++;
                lock.unlock();
            }
        });
    }

    private static void mutexContended() throws InterruptedException {
        int p = 8;
        perOp("mutex_8", 4_000_000, n -> {
            ReentrantLock lock = new ReentrantLock();
            counter = 0;
            CountDownLatch done = new CountDownLatch(p);
            for (int g = 0; g < p; g++) {
                go(() -> {
                    for (int i = 0; i < n / p; i++) {
                        lock.lock();
                        counter++;
                        lock.unlock();
                    }
                    done.countDown();
                });
            }
            done.await();
            check(counter == n, "lost update");
        });
    }

    private static void skynetNode(BlockingQueue<Long> up, long number, int size) throws InterruptedException {
        if (size == 1) {
            up.put(number);
            return;
        }
        BlockingQueue<Long> results = new SynchronousQueue<>();
        int part = size / 10;
        for (int i = 0; i < 10; i++) {
            long first = number + (long) i * part;
            go(() -> skynetNode(results, first, part));
        }
        long sum = 0;
        for (int i = 0; i < 10; i++) {
            sum += results.take();
        }
        up.put(sum);
    }

    private static void skynet() throws InterruptedException {
        long start = System.nanoTime();
        BlockingQueue<Long> result = new SynchronousQueue<>();
        go(() -> skynetNode(result, 0, 1_000_000));
        check(result.take() == 499_999_500_000L, "skynet");
        report("skynet_1m", (System.nanoTime() - start) / 1e6, "ms");
    }

    private static void sieve() throws InterruptedException {
        long start = System.nanoTime();
        BlockingQueue<Integer> first = new SynchronousQueue<>();
        go(() -> {
            for (int i = 2; ; i++) {
                first.put(i);
            }
        });
        BlockingQueue<Integer> in = first;
        int prime = 0;
        for (int i = 0; i < 1000; i++) {
            prime = in.take();
            BlockingQueue<Integer> from = in;
            BlockingQueue<Integer> out = new SynchronousQueue<>();
            int divisor = prime;
            go(() -> {
                while (true) {
                    Integer v = from.take();
                    if (v % divisor != 0) {
                        out.put(v);
                    }
                }
            });
            in = out;
        }
        check(prime == 7919, "sieve");
        report("sieve_1000", (System.nanoTime() - start) / 1e6, "ms");
    }

    /** A million that wait for one thing. What the collector finds to be garbage is not counted. */
    private static void idle() throws InterruptedException {
        int n = 1_000_000;
        System.gc();
        double before = status("VmRSS");
        double tablesBefore = status("VmPTE");
        CountDownLatch ready = new CountDownLatch(n);
        CountDownLatch stop = new CountDownLatch(1);
        CountDownLatch ended = new CountDownLatch(n);
        long start = System.nanoTime();
        for (int i = 0; i < n; i++) {
            go(() -> {
                ready.countDown();
                stop.await();
                ended.countDown();
            });
        }
        ready.await();
        long took = System.nanoTime() - start;
        System.gc();
        double after = status("VmRSS");
        double tables = status("VmPTE");
        start = System.nanoTime();
        stop.countDown();
        ended.await();
        long woke = System.nanoTime() - start;
        report("idle_1m_bytes", (after - before) / n, "B/goroutine");
        report("idle_1m_tables", (tables - tablesBefore) / n, "B/goroutine");
        report("idle_1m_park", (double) took / n, "ns/goroutine");
        report("idle_1m_wake", (double) woke / n, "ns/goroutine");
    }

    private static void sleepers() throws InterruptedException {
        int n = 1_000_000;
        CountDownLatch done = new CountDownLatch(n);
        long start = System.nanoTime();
        for (int i = 0; i < n; i++) {
            go(() -> {
                Thread.sleep(1000);
                done.countDown();
            });
        }
        done.await();
        report("sleep_1m", (System.nanoTime() - start) / 1e6, "ms");
        report("sleep_1m_rss", status("VmRSS") / 1e6, "MB");
    }

    private static void pool() throws InterruptedException {
        int workers = 8;
        perOp("worker_pool_8", 2_000_000, n -> {
            BlockingQueue<Integer> jobs = new ArrayBlockingQueue<>(64);
            BlockingQueue<Integer> results = new ArrayBlockingQueue<>(64);
            List<Thread> all = new ArrayList<>();
            for (int w = 0; w < workers; w++) {
                all.add(go(() -> {
                    while (true) {
                        results.put(jobs.take() * 2);
                    }
                }));
            }
            go(() -> {
                for (int i = 0; i < n; i++) {
                    jobs.put(i);
                }
            });
            long sum = 0;
            for (int i = 0; i < n; i++) {
                sum += results.take();
            }
            all.forEach(Thread::interrupt);
            check(sum == 2 * sumBelow(n), "pool");
        });
    }

    private static void pipeline() throws InterruptedException {
        int workers = 8;
        perOp("fanout_fanin_8", 1_000_000, n -> {
            BlockingQueue<Integer> in = new SynchronousQueue<>();
            BlockingQueue<Integer> merged = new SynchronousQueue<>();
            List<Thread> all = new ArrayList<>();
            all.add(go(() -> {
                for (int i = 0; i < n; i++) {
                    in.put(i);
                }
            }));
            for (int w = 0; w < workers; w++) {
                BlockingQueue<Integer> out = new SynchronousQueue<>();
                all.add(go(() -> {
                    while (true) {
                        out.put(in.take() * 2);
                    }
                }));
                all.add(go(() -> {
                    while (true) {
                        merged.put(out.take());
                    }
                }));
            }
            long sum = 0;
            for (int i = 0; i < n; i++) {
                sum += merged.take();
            }
            all.forEach(Thread::interrupt);
            check(sum == 2 * sumBelow(n), "pipeline");
        });
    }

    private static void timers() throws InterruptedException {
        ScheduledThreadPoolExecutor timers = new ScheduledThreadPoolExecutor(1);
        timers.setRemoveOnCancelPolicy(true);
        perOp("timer_start_stop", 2_000_000, n -> {
            for (int i = 0; i < n; i++) {
                timers.schedule(() -> {}, 1, TimeUnit.HOURS).cancel(false);
            }
        });
        timers.shutdownNow();
    }

    private static Body unsupported(String name) {
        return () -> System.out.println(name + " unsupported");
    }

    public static void main(String[] names) throws InterruptedException {
        Map<String, Body> all = new LinkedHashMap<>();
        all.put("spawn", Bench::spawn);
        all.put("spawn_join", Bench::spawnJoin);
        all.put("yield", Bench::yield);
        all.put("pingpong", Bench::pingpong);
        all.put("chan_spsc_128", Bench::spsc);
        all.put("chan_spsc_0", Bench::unbufferedSpsc);
        all.put("chan_mpmc_4x4_128", Bench::mpmc);
        all.put("fanin_100_0", Bench::fanin);
        all.put("select_2_blocking", unsupported("select_2_blocking"));
        all.put("select_2_default", unsupported("select_2_default"));
        all.put("mutex_uncontended", Bench::mutexUncontended);
        all.put("mutex_8", Bench::mutexContended);
        all.put("skynet_1m", Bench::skynet);
        all.put("sieve_1000", Bench::sieve);
        all.put("idle_1m", Bench::idle);
        all.put("sleep_1m", Bench::sleepers);
        all.put("worker_pool_8", Bench::pool);
        all.put("fanout_fanin_8", Bench::pipeline);
        all.put("context_cancel_100k", unsupported("context_cancel_100k"));
        all.put("timer_start_stop", Bench::timers);
        // As the first one of the virtual threads, like everywhere else.
        boolean[] ended = {false};
        Thread first = go(() -> {
            for (Map.Entry<String, Body> each : all.entrySet()) {
                if (List.of(names).contains(each.getKey()) || List.of(names).contains("all")) {
                    each.getValue().run();
                }
            }
            ended[0] = true;
        });
        first.join();
        System.exit(ended[0] ? 0 : 1);
    }
}
