import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.Stream;

/**
 * Asks ONNX files through ONNX Runtime for Java.
 *
 * <p>Fields of a request: the model's file, the file of decoded photos (their RGB bytes, row by row,
 * one photo after the other), their number, height and width.
 */
final class Ask extends Client {
  private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
  private final Map<String, OrtSession> loaded = new HashMap<>();

  public static void main(String[] arguments) throws Exception {
    new Ask().run(arguments);
  }

  @Override
  String version() {
    return environment.getVersion();
  }

  @Override
  Question read(String[] fields, int threads) throws Exception {
    if (!loaded.containsKey(fields[0])) {
      loaded.put(fields[0], load(fields[0], threads));
    }
    OrtSession session = loaded.get(fields[0]);
    byte[] pixels = Files.readAllBytes(Path.of(fields[1]));
    long[] sizes = Stream.of(fields).skip(2).mapToLong(Long::parseLong).toArray();
    long[] shape = {sizes[0], sizes[1], sizes[2], 3};
    ByteBuffer buffer = ByteBuffer.allocateDirect(pixels.length).order(ByteOrder.nativeOrder());
    buffer.put(pixels).rewind();
    OnnxTensor photos = OnnxTensor.createTensor(environment, buffer, shape, OnnxJavaType.UINT8);
    return answer -> {
      long begin = System.nanoTime();
      try (OrtSession.Result outputs = session.run(Map.of("image", photos))) {
        double milliseconds = millisecondsSince(begin);
        if (answer != null) {
          for (Map.Entry<String, OnnxValue> output : outputs) {
            write(answer, output.getKey(), (OnnxTensor) output.getValue());
          }
        }
        return milliseconds;
      }
    };
  }

  private OrtSession load(String path, int threads) throws OrtException {
    OrtSession.SessionOptions options = new OrtSession.SessionOptions();
    options.setIntraOpNumThreads(threads);
    return environment.createSession(path, options);
  }

  private static void write(Answer answer, String name, OnnxTensor tensor) throws Exception {
    TensorInfo info = tensor.getInfo();
    ByteBuffer buffer = tensor.getByteBuffer();
    byte[] bytes = new byte[buffer.remaining()];
    buffer.get(bytes);
    answer.write(name, info.type.name(), info.getShape(), bytes);
  }
}
