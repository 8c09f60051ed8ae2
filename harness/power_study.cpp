// power_study.cpp: the program prnn_power_study, which keeps the books of harness/power_study.sh:
//   prnn_power_study add DAMAGE NUMBER    what `prnn gate --json` says on stdin becomes a line on stdout
//   prnn_power_study tally FILE           rates with their bounds from such lines
#include <charconv>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "harness/exit_codes.hpp"
#include "harness/power.hpp"

int main(int argc, char** argv) {
  using namespace prnn;
  return guarded([&] {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() == 2 && words[0] == "tally") {
      std::cout << table_of(rates(read_trials(words[1])));
    } else if (words.size() == 3 && words[0] == "add") {
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(words[2].data(), words[2].data() + words[2].size(), number);
      if (error != std::errc() || *end != 0) throw BadInput(words[2] + ": expected a number");
      std::cout << trial_line(words[1], number, {std::istreambuf_iterator<char>(std::cin), {}}).dump() << "\n";
    } else {
      throw BadInput("expected prnn_power_study add DAMAGE NUMBER, or prnn_power_study tally FILE");
    }
    return 0;
  });
}
