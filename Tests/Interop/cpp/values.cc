#include "values.h"

#include <random>

#include <google/protobuf/stubs/strutil.h>
#include <google/protobuf/util/json_util.h>

namespace {

std::string toBase64(const std::string &bytes) {
    std::string text;
    google::protobuf::Base64Escape(bytes, &text);
    return text;
}

std::string newId() {
    std::random_device random;
    std::string bytes;
    for (int count = 0; count < 16; ++count) bytes.push_back(static_cast<char>(random()));
    return toBase64(bytes);
}

const Json &find(const std::string &path, const Json &answer) {
    const Json *value = &answer;
    size_t start = 0;
    while (start <= path.size()) {
        auto end = std::min(path.find('.', start), path.size());
        auto part = path.substr(start, end - start);
        start = end + 1;
        if (value->is_array()) {
            auto index = std::stol(part);
            if (index < 0) index += static_cast<long>(value->size());
            if (index < 0 || index >= static_cast<long>(value->size()))
                throw Failure("there is no " + path + " in the answer");
            value = &(*value)[index];
        } else if (value->is_object() && value->contains(part)) {
            value = &(*value)[part];
        } else {
            throw Failure("there is no " + path + " in the answer");
        }
    }
    return *value;
}

Json parsed(const Json &base64) {
    std::string bytes;
    if (!base64.is_string() || !google::protobuf::Base64Unescape(base64.get<std::string>(), &bytes)) return nullptr;
    return Json::parse(bytes, nullptr, false);
}

} // namespace

std::string Variables::text(const std::string &text) {
    std::string replaced;
    size_t start = 0;
    for (size_t open; (open = text.find("${", start)) != std::string::npos;) {
        auto close = text.find('}', open);
        auto name = text.substr(open + 2, close - open - 2);
        if (!values.contains(name)) {
            if (!name.starts_with("uuid:")) throw Failure("nothing was saved as " + name);
            values[name] = newId();
        }
        replaced += text.substr(start, open - start) + values[name];
        start = close + 1;
    }
    return replaced + text.substr(start);
}

Json Variables::fill(const Json &value, bool isPattern) {
    if (value.is_string()) return text(value.get<std::string>());
    if (value.is_object() && value.contains("$json") && !isPattern) return toBase64(fill(value["$json"]).dump());
    Json filled = value;
    if (value.is_structured())
        for (auto &one : filled) one = fill(one, isPattern);
    return filled;
}

void Variables::save(const Json &paths, const Json &answer) {
    for (const auto &[name, path] : paths.items()) {
        const auto &value = find(path.get<std::string>(), answer);
        values[name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
}

std::optional<std::string> difference(const Json &pattern, const Json &value, const std::string &path) {
    auto differs = [&](const std::string &expected) { return path + ": " + value.dump() + " is not " + expected; };
    if (pattern.is_object()) {
        if (pattern.contains("$json")) {
            auto stored = parsed(value);
            if (stored == pattern["$json"]) return std::nullopt;
            return path + ": " + stored.dump() + " is not " + pattern["$json"].dump();
        }
        if (pattern.contains("$count")) {
            if (value.is_array() && value.size() == pattern["$count"]) return std::nullopt;
            return differs(pattern["$count"].dump() + " elements");
        }
        if (pattern.contains("$contains")) {
            for (const auto &part : pattern["$contains"]) {
                auto isFound = value.is_array() && std::any_of(value.begin(), value.end(), [&](const Json &element) {
                                   return !difference(part, element);
                               });
                if (!isFound) return path + ": nothing matches " + part.dump();
            }
            return std::nullopt;
        }
        if (!value.is_object()) return differs("an object");
        for (const auto &[name, one] : pattern.items())
            if (auto found = difference(one, value.value(name, Json()), path + "." + name)) return found;
        return std::nullopt;
    }
    if (pattern.is_array()) {
        if (!value.is_array() || value.size() != pattern.size())
            return differs(std::to_string(pattern.size()) + " elements");
        for (size_t index = 0; index < pattern.size(); ++index)
            if (auto found = difference(pattern[index], value[index], path + "." + std::to_string(index))) return found;
        return std::nullopt;
    }
    if (pattern == value) return std::nullopt;
    return differs(pattern.dump());
}

void match(const Json &pattern, const Json &value) {
    if (auto found = difference(pattern, value)) throw Failure(*found);
}

Json toJson(const google::protobuf::Message &message) {
    google::protobuf::util::JsonPrintOptions options;
    options.always_print_primitive_fields = true;
    std::string text;
    auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
    if (!status.ok()) throw Failure(status.ToString());
    return Json::parse(text);
}

void fromJson(const Json &json, google::protobuf::Message &message) {
    auto status = google::protobuf::util::JsonStringToMessage(json.dump(), &message);
    if (!status.ok()) throw Failure(status.ToString());
}
