import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/**
 * What every client in Java does: answers a file of requests, then times them.
 *
 * <p>A request is a line of fields, separated by tabs. One that fails costs nobody else the answer.
 */
abstract class Client {
  /** A request that was read and can be asked again and again. */
  interface Question {
    /**
     * Asks once.
     *
     * @param answer where to write the outputs; null: nowhere
     * @return milliseconds that the model took
     */
    double ask(Answer answer) throws Exception;
  }

  /** The outputs of one request: their bytes in files, their names, types and shapes in the log. */
  record Answer(int request, Path folder) {
    void write(String output, String type, long[] shape, byte[] bytes) throws IOException {
      say(output, type, shape);
      Files.write(folder.resolve(request + "." + output), bytes);
    }

    /** One file for each string. */
    void write(String output, String type, long[] shape, List<byte[]> strings) throws IOException {
      say(output, type, shape);
      for (int i = 0; i < strings.size(); i++) {
        Files.write(folder.resolve(request + "." + output + "." + i), strings.get(i));
      }
    }

    private void say(String output, String type, long[] shape) {
      String sizes = Arrays.toString(shape).replaceAll("[\\[\\] ]", "");
      print("output", request, output, type, sizes);
    }
  }

  /** Of the runtime, not of this program. */
  abstract String version();

  /** Makes a request from its fields. */
  abstract Question read(String[] fields, int threads) throws Exception;

  /** Arguments: [--rounds N] [--threads N] REQUESTS FOLDER. */
  final void run(String[] arguments) throws Exception {
    int rounds = option(arguments, "--rounds", 0);
    int threads = option(arguments, "--threads", 1);
    Path folder = Path.of(arguments[arguments.length - 1]);
    List<String> lines = Files.readAllLines(Path.of(arguments[arguments.length - 2]));

    print("version", version());
    List<Question> good = new ArrayList<>();
    for (int i = 0; i < lines.size(); i++) {
      try {
        Question question = read(lines.get(i).split("\t"), threads);
        question.ask(new Answer(i, folder));
        good.add(question);
      } catch (Exception error) {
        String message = error.getClass().getSimpleName() + ": " + error.getMessage();
        print("failed", i, message.replaceAll("\\s+", " "));
      }
    }
    // In turns, so that another job on the machine slows all of them.
    List<Double> times = new ArrayList<>();
    for (int round = 0; round < rounds; round++) {
      for (Question question : good) {
        times.add(question.ask(null));
      }
    }
    if (!times.isEmpty()) {
      times.sort(null);
      print("median", times.get(times.size() / 2), "ms", times.size(), "asks");
    }
  }

  static double millisecondsSince(long nanoTime) {
    return (System.nanoTime() - nanoTime) / 1e6;
  }

  private static int option(String[] arguments, String name, int otherwise) {
    return IntStream.range(0, arguments.length - 2)
        .filter(i -> arguments[i].equals(name))
        .map(i -> Integer.parseInt(arguments[i + 1]))
        .findFirst()
        .orElse(otherwise);
  }

  private static void print(Object... fields) {
    System.out.println(String.join("\t", Arrays.stream(fields).map(Object::toString).toList()));
  }
}
