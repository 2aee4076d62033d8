// Threads, memory outside of the heap, compression, collections, and code that is compiled while it runs.
import java.io.File;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.*;

public class Survive {
    static long work(int seed) throws Exception {
        byte[] text = new byte[100_000];
        for (int i = 0; i < text.length; i++) text[i] = (byte) ((i * seed) % 97);
        Deflater deflater = new Deflater();
        deflater.setInput(text);
        deflater.finish();
        byte[] packed = new byte[200_000];
        int size = deflater.deflate(packed);
        deflater.end();
        Inflater inflater = new Inflater();
        inflater.setInput(packed, 0, size);
        byte[] back = new byte[text.length];
        inflater.inflate(back);
        inflater.end();
        ByteBuffer outside = ByteBuffer.allocateDirect(50_000);
        outside.put(back, 0, 50_000);
        long sum = Arrays.hashCode(back) + outside.get(seed * 100);
        Map<String, Integer> words = new TreeMap<>();
        for (int i = 0; i < 3000; i++) words.merge("w" + (i * seed) % 211, i, Integer::sum);
        return sum * 31 + words.hashCode();
    }

    public static void main(String[] arguments) throws Exception {
        File stop = new File(System.getenv("STOP"));
        System.out.println("ready " + ProcessHandle.current().pid());
        Long first = null;
        for (int round = 0; first == null || !stop.exists(); round++) {
            ExecutorService pool = Executors.newFixedThreadPool(3);
            List<Future<Long>> all = new ArrayList<>();
            for (int seed = 1; seed <= 6; seed++) {
                int of = seed;
                all.add(pool.submit(() -> work(of)));
            }
            long result = 1;
            for (Future<Long> one : all) result = result * 31 + one.get();
            pool.shutdown();
            if (round % 20 == 0) System.gc();
            if (first != null && first != result) System.exit(1);
            first = result;
        }
        System.out.println("result " + Long.toHexString(first));
        System.exit(7);
    }
}
