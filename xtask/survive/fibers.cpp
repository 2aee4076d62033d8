// Boost.Context fibers and Boost.Coroutine2 coroutines that allocate, switch, end early and throw.
#include "survive.h"

#include <boost/context/fiber.hpp>
#include <boost/coroutine2/all.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace context = boost::context;
using Coroutine = boost::coroutines2::coroutine<std::string>;

static uint64_t fibers(uint64_t hash) {
    std::vector<context::fiber> all;
    for (int i = 0; i < 20; i++) {
        all.emplace_back([i, &hash](context::fiber &&caller) {
            for (int step = 0; step < 10; step++) {
                std::string text(50 + i * 3, 'f');
                caller = std::move(caller).resume();
                hash = mix(hash, text.size() + churn(i, 5));
            }
            return std::move(caller);
        });
    }
    for (bool alive = true; alive;) {
        alive = false;
        for (auto &one : all)
            if (one) {
                one = std::move(one).resume();
                alive = true;
            }
    }
    return hash;
}

static uint64_t coroutines(uint64_t hash) {
    for (int i = 0; i < 20; i++) {
        Coroutine::pull_type words([i](Coroutine::push_type &yield) {
            for (int word = 0; word < 10; word++) yield(std::string(word * 20, 'w'));
            if (i % 3 == 0) throw std::runtime_error(std::string(100, 'e'));
        });
        try {
            int taken = 0;
            for (const auto &word : words) {
                hash = mix(hash, word.size());
                // A coroutine that is left alone is unwound by an exception of Boost's.
                if (i % 3 == 1 && ++taken == 4) break;
            }
        } catch (const std::runtime_error &error) {
            hash = mix(hash, std::string(error.what()).size());
        }
    }
    return hash;
}

int main() {
    say_ready();
    while (!stopped()) round_ends(coroutines(fibers(1)));
    return end();
}
