// Saves features of image files: java Extract HOST:PORT SOURCE/NAME@WEIGHTS MODULE OUT.arrows FILE...
import com.google.protobuf.ByteString;
import io.grpc.*;
import io.grpc.stub.*;
import java.io.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.zip.CRC32;
import thingsvision.v1.*;

public class Extract {
  public static void main(String[] args) throws Exception {
    String[] id = args[1].split("[/@]", 3);
    ModelSpec.Builder model = ModelSpec.newBuilder().setSource(id[0]).setName(id[1]);
    if (!id[2].equals("default")) model.setPretrainedTag(id[2]);
    Metadata metadata = new Metadata();
    metadata.put(Metadata.Key.of("x-model", Metadata.ASCII_STRING_MARSHALLER), args[1]);
    ManagedChannel channel = ManagedChannelBuilder.forTarget(args[0]).usePlaintext()
        .maxInboundMessageSize(Integer.MAX_VALUE)
        .intercept(MetadataUtils.newAttachHeadersInterceptor(metadata)).build();
    CRC32 sum = new CRC32();
    CompletableFuture<Boolean> complete = new CompletableFuture<>();
    OutputStream out = new BufferedOutputStream(new FileOutputStream(args[3]));
    StreamObserver<ExtractRequest> requests = FeatureServiceGrpc.newStub(channel).extract(
        new StreamObserver<ExtractResponse>() {
          public void onNext(ExtractResponse reply) {
            if (reply.hasHeader()) System.out.println(reply.getHeader().getColumnsList());
            if (reply.hasTrailer())
              complete.complete((int) sum.getValue() == reply.getTrailer().getArrowCrc32());
            byte[] frame = reply.getFrame().getArrowIpc().toByteArray();
            sum.update(frame);
            try { out.write(frame); } catch (IOException error) { complete.completeExceptionally(error); }
          }
          public void onError(Throwable error) { complete.completeExceptionally(error); }
          public void onCompleted() { complete.complete(false); } // without a trailer
        });
    requests.onNext(ExtractRequest.newBuilder().setHeader(
        ExtractHeader.newBuilder().setModel(model).addModules(args[2])).build());
    for (int index = 0; index < args.length - 4; index++) {
      Path file = Paths.get(args[4 + index]);
      requests.onNext(ExtractRequest.newBuilder().setImage(Image.newBuilder().setIndex(index)
          .setName(file.getFileName().toString())
          .setEncoded(ByteString.copyFrom(Files.readAllBytes(file)))).build());
    }
    requests.onCompleted();
    boolean whole = complete.get();
    out.close();
    channel.shutdown();
    if (!whole) throw new IOException("the reply is incomplete: don't use " + args[3]);
  }
}
