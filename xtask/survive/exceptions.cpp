// Exceptions that leave allocations, are thrown through containers, and carry memory between threads.
#include "survive.h"

#include <future>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

struct Throws {
    explicit Throws(int depth) : name(std::to_string(depth) + std::string(40, 'x')) {
        if (depth == 0) throw std::runtime_error(name);
        inner = std::make_unique<Throws>(depth - 1);
    }
    std::string name;
    std::unique_ptr<Throws> inner;
};

static uint64_t work(uint64_t seed) {
    uint64_t hash = seed;
    for (int i = 0; i < 200; i++) {
        try {
            Throws deep(static_cast<int>(hash % 20));
        } catch (const std::exception &error) {
            hash = mix(hash, std::string(error.what()).size());
        }
        try {
            volatile size_t huge = ~size_t{0} / 4;
            std::unique_ptr<char[]> none(new char[huge]);
        } catch (const std::bad_alloc &) {
            hash = mix(hash, 1);
        }
        std::map<int, std::string> names;
        for (int j = 0; j < 20; j++) names[static_cast<int>(mix(hash, j) % 1000)] = std::string(j * 3, 'y');
        for (const auto &[key, value] : names) hash = mix(hash, key + value.size());
    }
    return hash;
}

int main() {
    say_ready();
    while (!stopped()) {
        std::vector<std::future<uint64_t>> all;
        for (uint64_t i = 1; i <= 3; i++) all.push_back(std::async(std::launch::async, work, i));
        uint64_t hash = 1;
        for (auto &one : all) hash = mix(hash, one.get());
        round_ends(hash);
    }
    return end();
}
