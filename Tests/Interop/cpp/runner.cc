#include "runner.h"

#include <chrono>
#include <thread>

#include "martlet/v1/event.pb.h"
#include "status.h"

namespace {

using namespace std::chrono;

constexpr int callDeadlineMillis = 30'000;
constexpr int streamDeadlineMillis = 600'000;

std::unique_ptr<grpc::ClientContext> newContext(const Json &step, int deadlineMillis) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(system_clock::now() + milliseconds(step.value("deadline_millis", deadlineMillis)));
    // A server that has just been started again may not be there yet.
    context->set_wait_for_ready(true);
    return context;
}

// The messages that one step reads: counts and merges them, and says when they are enough.
class Reading {
public:
    Reading(const Json &step, Variables &variables)
        : step(step), variables(variables), until(variables.fill(step.value("until", Json()), true)),
          keeps(step.contains("answer") || step.contains("save")), isOrdered(step.contains("positions_after")),
          position(isOrdered ? std::stoull(variables.text(step["positions_after"])) : 0) {}

    // Takes the next message; true if it is the last one to read.
    bool take(const google::protobuf::Message &message) {
        if (auto field = message.GetDescriptor()->FindFieldByName("events")) {
            auto reflection = message.GetReflection();
            for (int index = 0; index < reflection->FieldSize(message, field); ++index)
                takeEvent(static_cast<const martlet::v1::RecordedEvent &>(
                    reflection->GetRepeatedMessage(message, field, index)));
        }
        if (keeps) {
            if (!merged) merged.reset(message.New());
            merged->MergeFrom(message);
        }
        if (until.is_null()) return false;
        if (until.contains("events")) return events >= until["events"].get<uint64_t>();
        return !difference(until["message"], toJson(message));
    }

    // Checks what the step expects, after the last message.
    void finish() {
        if (step.contains("count") && step["count"] != events)
            throw Failure(std::to_string(events) + " events came, not " + step["count"].dump());
        if (!keeps) return;
        auto answer = merged ? toJson(*merged) : Json();
        if (step.contains("answer")) match(variables.fill(step["answer"], true), answer);
        variables.save(step.value("save", Json::object()), answer);
    }

    // The same, after the end of the call.
    void finish(const grpc::Status &status) {
        if (!until.is_null()) throw Failure("the stream ended before what was waited for: " + status.error_message());
        checkEnd(variables.fill(step.value("status", Json()), true), status);
        finish();
    }

private:
    void takeEvent(const martlet::v1::RecordedEvent &event) {
        ++events;
        if (!isOrdered) return;
        if (event.position() != position + 1)
            throw Failure("position " + std::to_string(event.position()) + " came after " + std::to_string(position));
        ++position;
    }

    const Json &step;
    Variables &variables;
    Json until;
    bool keeps;
    bool isOrdered;
    uint64_t position;
    uint64_t events = 0;
    MessagePtr merged;
};

} // namespace

Runner::Runner(const std::map<std::string, Method> &methods, std::function<Json(const Json &)> askServer)
    : methods(methods), askServer(std::move(askServer)) {}

Runner::~Runner() {
    for (auto &[name, open] : streams) {
        if (open.hasEnded) continue;
        open.stream.context->TryCancel();
        while (open.stream.next()) {
        }
        open.stream.finish();
    }
}

void Runner::run(const Json &steps) {
    for (size_t index = 0; index < steps.size(); ++index) {
        try {
            carryOut(steps[index]);
        } catch (const std::exception &failure) {
            throw Failure("step " + std::to_string(index + 1) + ": " + failure.what());
        }
    }
}

void Runner::carryOut(const Json &step) {
    if (step.contains("open")) {
        auto context = newContext(step, streamDeadlineMillis);
        streams[step["open"]] = {method(step).stream(std::move(context), *request(step))};
    } else if (step.contains("read")) {
        read(streams.at(step["read"]), step);
    } else if (step.contains("cancel")) {
        streams.at(step["cancel"]).stream.context->TryCancel();
    } else if (step.contains("server")) {
        variables.save(step.value("save", Json::object()), askServer(variables.fill(step)));
    } else {
        auto giveUp = steady_clock::now() + milliseconds(step.value("within_millis", 0));
        while (true) {
            try {
                return call(step);
            } catch (const Failure &) {
                if (steady_clock::now() >= giveUp) throw;
            }
            std::this_thread::sleep_for(50ms);
        }
    }
}

const Method &Runner::method(const Json &step) const {
    auto found = methods.find(step["call"]);
    if (found == methods.end()) throw Failure(step["call"].dump() + " is not in methods.cc");
    return found->second;
}

MessagePtr Runner::request(const Json &step) {
    auto message = method(step).newRequest();
    fromJson(variables.fill(step["request"]), *message);
    return message;
}

void Runner::call(const Json &step) {
    auto message = request(step);
    auto context = newContext(step, callDeadlineMillis);
    if (method(step).stream) {
        OpenStream open{method(step).stream(std::move(context), *message)};
        return read(open, step);
    }
    Reading reading(step, variables);
    MessagePtr answer;
    auto status = method(step).unary(*context, *message, answer);
    if (status.ok()) reading.take(*answer);
    reading.finish(status);
}

void Runner::read(OpenStream &open, const Json &step) {
    Reading reading(step, variables);
    while (auto message = open.stream.next()) {
        if (reading.take(*message)) return reading.finish();
        std::this_thread::sleep_for(milliseconds(step.value("pause_millis", 0)));
    }
    open.hasEnded = true;
    reading.finish(open.stream.finish());
}
