// power_study.cpp: the program prnn_power_study, which keeps the books of harness/power_study.sh:
//   prnn_power_study add DAMAGE NUMBER [CORE TRIALS_AT_ONCE]    what `prnn gate --json` says on stdin becomes a line on stdout
//   prnn_power_study tally FILE                                     rates with their bounds from such lines
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
    } else if ((words.size() == 3 || words.size() == 5) && words[0] == "add") {
      std::vector<std::int64_t> numbers;
      for (std::size_t i = 2; i < words.size(); ++i) {
        const std::string& word = words[i];
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), numbers.emplace_back());
        if (error != std::errc() || *end != 0) throw BadInput(word + ": expected a number");
      }
      numbers.resize(3);
      std::cout << trial_line(words[1], numbers[0], {numbers[1], numbers[2]}, {std::istreambuf_iterator<char>(std::cin), {}}).dump() << "\n";
    } else {
      throw BadInput("expected prnn_power_study add DAMAGE NUMBER [CORE TRIALS_AT_ONCE], or prnn_power_study tally FILE");
    }
    return 0;
  });
}
