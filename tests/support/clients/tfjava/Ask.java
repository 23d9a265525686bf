import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.SessionFunction;
import org.tensorflow.Tensor;
import org.tensorflow.TensorFlow;
import org.tensorflow.ndarray.NdArray;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.proto.ConfigProto;
import org.tensorflow.types.TString;

/**
 * Asks SavedModels through TensorFlow's session loader, the one of TensorFlow Serving.
 *
 * <p>Fields of a request: folder of the model, signature, then the files of the photos, which go in
 * one batch.
 */
final class Ask extends Client {
  private final Map<String, SavedModelBundle> loaded = new HashMap<>();

  public static void main(String[] arguments) throws Exception {
    new Ask().run(arguments);
  }

  @Override
  String version() {
    return TensorFlow.version();
  }

  @Override
  Question read(String[] fields, int threads) throws Exception {
    SavedModelBundle model = loaded.computeIfAbsent(fields[0], path -> load(path, threads));
    SessionFunction signature = model.function(fields[1]);
    int batch = fields.length - 2;
    NdArray<byte[]> photos = NdArrays.ofObjects(byte[].class, Shape.of(batch));
    for (int i = 0; i < batch; i++) {
      photos.setObject(Files.readAllBytes(Path.of(fields[i + 2])), i);
    }
    Map<String, Tensor> given = Map.of("image_bytes", TString.tensorOfBytes(photos));
    return answer -> {
      long begin = System.nanoTime();
      try (Result outputs = signature.call(given)) {
        double milliseconds = millisecondsSince(begin);
        if (answer != null) {
          for (Map.Entry<String, Tensor> output : outputs) {
            write(answer, output.getKey(), output.getValue());
          }
        }
        return milliseconds;
      }
    };
  }

  private static SavedModelBundle load(String path, int threads) {
    // The threads are the process's own: those of the model that is loaded first.
    ConfigProto config =
        ConfigProto.newBuilder()
            .setIntraOpParallelismThreads(threads)
            .setInterOpParallelismThreads(threads)
            .build();
    return SavedModelBundle.loader(path).withTags("serve").withConfigProto(config).load();
  }

  private static void write(Answer answer, String name, Tensor tensor) throws Exception {
    String type = tensor.dataType().name();
    long[] shape = tensor.shape().asArray();
    if (tensor instanceof TString strings) {
      List<byte[]> each = new ArrayList<>();
      strings.asBytes().scalars().forEach(scalar -> each.add(scalar.getObject()));
      answer.write(name, type, shape, each);
    } else {
      byte[] bytes = new byte[(int) tensor.numBytes()];
      tensor.asRawTensor().data().read(bytes);
      answer.write(name, type, shape, bytes);
    }
  }
}
