// A map from names to vectors of strings, filled, read and dropped: each line on standard input is a number of strings,
// answered by the sum of their lengths. The same strings in every run; all are too long to be kept without a block.
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace {

using Orders = std::map<std::string, std::vector<std::string>>;

Orders filled(unsigned long count) {
    Orders orders;
    for (unsigned long i = 0; i < count; i++) {
        std::string customer = "customer number " + std::to_string(i * 2654435761u % 4999);
        orders[customer].push_back("order " + std::to_string(i) + ' ' + std::string(16 + i % 80, 'x'));
    }
    return orders;
}

std::size_t length(const Orders &orders) {
    std::size_t sum = 0;
    for (const auto &[customer, lines] : orders)
        for (const std::string &line : lines)
            sum += customer.size() + line.size();
    return sum;
}

} // namespace

int main() {
    unsigned long count = 0;
    while (std::cin >> count)
        std::cout << length(filled(count)) << std::endl;
}
