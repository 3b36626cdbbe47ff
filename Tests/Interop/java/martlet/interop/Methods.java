package martlet.interop;

import com.google.protobuf.Message;
import io.grpc.MethodDescriptor;
import io.grpc.ServiceDescriptor;
import io.grpc.health.v1.HealthGrpc;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import martlet.v1.AdminServiceGrpc;
import martlet.v1.AppendServiceGrpc;
import martlet.v1.ConsumerServiceGrpc;
import martlet.v1.QueryServiceGrpc;
import martlet.v1.ScheduleServiceGrpc;
import martlet.v1.SettingsServiceGrpc;
import martlet.v1.SnapshotServiceGrpc;
import martlet.v1.SubscribeServiceGrpc;

/** The methods that cases call. */
final class Methods {
    private static final List<ServiceDescriptor> SERVICES = List.of(
            AdminServiceGrpc.getServiceDescriptor(),
            AppendServiceGrpc.getServiceDescriptor(),
            ConsumerServiceGrpc.getServiceDescriptor(),
            QueryServiceGrpc.getServiceDescriptor(),
            ScheduleServiceGrpc.getServiceDescriptor(),
            SettingsServiceGrpc.getServiceDescriptor(),
            SnapshotServiceGrpc.getServiceDescriptor(),
            SubscribeServiceGrpc.getServiceDescriptor(),
            HealthGrpc.getServiceDescriptor(),
            io.grpc.reflection.v1.ServerReflectionGrpc.getServiceDescriptor(),
            io.grpc.reflection.v1alpha.ServerReflectionGrpc.getServiceDescriptor());

    private static final Map<String, MethodDescriptor<?, ?>> METHODS = SERVICES.stream()
            .flatMap(service -> service.getMethods().stream())
            .collect(Collectors.toMap(MethodDescriptor::getFullMethodName, method -> method));

    private Methods() {}

    /** The method of that full name. */
    @SuppressWarnings("unchecked")
    static MethodDescriptor<Message, Message> named(String name) {
        var method = METHODS.get(name);
        if (method == null) throw new Failure(name + " is not in Methods.java");
        return (MethodDescriptor<Message, Message>) method;
    }

    /** A new request of the method. */
    static Message.Builder newRequest(MethodDescriptor<Message, Message> method) {
        var marshaller = (MethodDescriptor.PrototypeMarshaller<Message>) method.getRequestMarshaller();
        return marshaller.getMessagePrototype().newBuilderForType();
    }
}
