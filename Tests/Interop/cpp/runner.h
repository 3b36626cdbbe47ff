// Carries out a case's steps.
#pragma once

#include "methods.h"
#include "values.h"

class Runner {
public:
    // A runner for one case.
    Runner(const std::map<std::string, Method> &methods, std::function<Json(const Json &)> askServer);
    ~Runner();

    // Carries out the steps; throws a Failure with the number of the first one that fails.
    void run(const Json &steps);

private:
    struct OpenStream {
        Stream stream;
        bool hasEnded = false;
    };

    void carryOut(const Json &step);
    void call(const Json &step);
    void read(OpenStream &open, const Json &step);
    const Method &method(const Json &step) const;
    MessagePtr request(const Json &step);

    const std::map<std::string, Method> &methods;
    std::function<Json(const Json &)> askServer;
    Variables variables;
    std::map<std::string, OpenStream> streams;
};
