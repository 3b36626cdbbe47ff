// The tasks of Docs/CLIENTS.md with gRPC for C++; Tests/Interop/run_tasks.py starts this once for each of them:
//
//     tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]
//
// The parts between `task:` and `end` are those that the page shows.

#include "client.h"

#include <iostream>

using namespace martlet::v1;

namespace {

std::string bytesOfUUID(std::string text) {
    std::erase(text, '-');
    std::string bytes;
    for (size_t index = 0; index < text.size(); index += 2)
        bytes.push_back(static_cast<char>(std::stoi(text.substr(index, 2), nullptr, 16)));
    return bytes;
}

void append(Client &client) {
    auto response = client.placeOrder(newId());
    const auto &order = response.aggregates(0);
    std::cout << "appended versions " << order.first_version() << " to " << order.last_version() << " at positions "
              << response.first_position() << " to " << response.last_position() << std::endl;
}

// Has somebody else append between the load and the append of the first try.
void conflict(Client &client) {
    auto order = newId();
    client.append(order, 0, newEvent("OrderPlaced", R"({"cents":1200})"));
    auto isFirst = true;
    auto response = client.execute(order, [&](const std::vector<RecordedEvent> &history) {
        if (std::exchange(isFirst, false)) client.append(order, 1, newEvent("OrderPaid", R"({"cents":1200})"));
        return newEvent("OrderShipped", R"({"after":)" + std::to_string(history.size()) + "}");
    });
    std::cout << "appended version " << response.aggregates(0).last_version() << std::endl;
}

// Appends when it is told to; the answer to its first try does not arrive.
void retry(Client &client) {
    // A call before, so that the connection is there.
    client.serverInfo();
    std::cout << "ready" << std::endl;
    std::cin.get();
    auto response = client.append(newId(), 0, newEvent("OrderPlaced", R"({"cents":1200})"));
    std::cout << "stored as version " << response.aggregates(0).last_version() << ", replayed: " << std::boolalpha
              << response.replayed() << std::endl;
}

void load(Client &client) {
    auto order = newId();
    auto placed = client.placeOrder(order);
    client.append(order, 2, newEvent("OrderShipped", "{}"));
    client.printHistory(order, placed);
}

void subscribe(Client &client, uint64_t count) {
    client.follow({}, [=](const RecordedEvent &event) {
        std::cout << "event " << event.position() << std::endl;
        return event.position() < count;
    });
}

void project(Client &client, uint64_t count, const std::string &path) {
    client.project(path, [=](uint64_t position) {
        std::cout << "projected " << position << std::endl;
        return position < count;
    });
}

void run(Client &client, const std::string &task, uint64_t count, const std::string &path) {
    if (task == "connect") {
        client.serverInfo();
    } else if (task == "append") {
        append(client);
    } else if (task == "conflict") {
        conflict(client);
    } else if (task == "retry") {
        retry(client);
    } else if (task == "load") {
        load(client);
    } else if (task == "subscribe") {
        subscribe(client, count);
    } else if (task == "project") {
        project(client, count, path);
    } else if (task == "drain") {
        client.throughDrain(newId(), count);
    } else {
        throw std::runtime_error("there is no task " + task);
    }
}

} // namespace

int main(int count, char **arguments) {
    if (count < 7) {
        std::cerr << "usage: tasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]\n";
        return 2;
    }
    try {
        Client client(arguments[1], arguments[2], arguments[3], arguments[4], bytesOfUUID(arguments[5]));
        run(client, arguments[6], count > 7 ? std::stoull(arguments[7]) : 0, count > 8 ? arguments[8] : "");
    } catch (const std::exception &failure) {
        std::cerr << failure.what() << std::endl;
        return 1;
    }
}
