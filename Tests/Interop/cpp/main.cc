// Carries out cases with gRPC for C++; Tests/Interop/cases/README.md describes them, and run_cases.py starts this:
//
//     driver --target HOST:PORT --ca FILE CASE...
//
// It writes a line of JSON for each case, and for each thing asked of run_cases.py, whose answers come as lines of
// JSON.

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "runner.h"

namespace {

void say(const Json &line) { std::cout << line.dump() << std::endl; }

Json askServer(const Json &step) {
    say({{"ask", step}});
    std::string line;
    if (!std::getline(std::cin, line)) throw Failure("run_cases.py is gone");
    auto answer = Json::parse(line);
    if (answer.contains("error")) throw Failure(answer["error"]);
    return answer;
}

std::string contents(const std::filesystem::path &path) {
    std::ifstream file(path);
    if (!file) throw Failure("cannot read " + path.string());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// A channel to the target that trusts the authority in the file.
std::shared_ptr<grpc::Channel> connect(const std::string &target, const std::filesystem::path &ca) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = contents(ca);
    return grpc::CreateChannel(target, grpc::SslCredentials(options));
}

} // namespace

int main(int count, char **arguments) {
    if (count < 6 || std::string(arguments[1]) != "--target" || std::string(arguments[3]) != "--ca") {
        std::cerr << "usage: driver --target HOST:PORT --ca FILE CASE...\n";
        return 2;
    }
    auto methods = allMethods(connect(arguments[2], arguments[4]));
    for (int index = 5; index < count; ++index) {
        std::filesystem::path path = arguments[index];
        Json result = {{"case", path.stem().string()}, {"passed", true}, {"why", ""}};
        try {
            Runner(methods, askServer).run(Json::parse(contents(path))["steps"]);
        } catch (const std::exception &failure) {
            result["passed"] = false;
            result["why"] = failure.what();
        }
        say(result);
    }
}
