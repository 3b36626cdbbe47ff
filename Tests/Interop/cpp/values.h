// The language of Tests/Interop/cases without any calls: variables and patterns.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include <google/protobuf/message.h>

using Json = nlohmann::json;

// A step did not come to what it expects.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What a case has saved, and the ids that it has made.
class Variables {
public:
    // Replaces the variables in a string.
    std::string text(const std::string &text);
    // Replaces the variables in a value, and JSON by its bytes unless the value is a pattern.
    Json fill(const Json &value, bool isPattern = false);
    // Keeps what lies at the paths of an answer.
    void save(const Json &paths, const Json &answer);

private:
    std::map<std::string, std::string> values;
};

// Where and how a value does not match a pattern; nothing if it does.
std::optional<std::string> difference(const Json &pattern, const Json &value, const std::string &path = "");

// Throws that as a Failure.
void match(const Json &pattern, const Json &value);

// A message in protobuf's JSON mapping, with default values.
Json toJson(const google::protobuf::Message &message);
// Reads a message from that.
void fromJson(const Json &json, google::protobuf::Message &message);
