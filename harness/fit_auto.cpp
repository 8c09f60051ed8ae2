// fit_auto.cpp: the tool prnn_fit_auto (kernels/solvers/auto.cpp says when). Exit codes: 0; 1 auto is slower than allowed; 64 bad usage or input.
#include <charconv>
#include <iostream>
#include <string>
#include <vector>

#include "harness/auto_table.hpp"

namespace prnn {
namespace {

constexpr const char* kUsage =
    "usage: prnn_fit_auto [--multiprocessors 132] RECORD...   prints kernels/solvers/auto_table.inc\n"
    "       prnn_fit_auto --unseen [--pass backward]          prints a suite of sizes drawn from the table in this program; pass forward otherwise\n"
    "       prnn_fit_auto --check [--within 1.10] RECORD...   auto's time over the best solver's; exits 1 where one is beyond";

int main_command(const std::vector<std::string>& words) {
  FitOptions options{.command = "prnn_fit_auto"};
  double within = 1.10;
  bool unseen = false, check = false;
  std::string pass;
  std::vector<std::string> paths;
  const auto value = [&](std::size_t at, auto& number) {
    const std::string& word = at < words.size() ? words[at] : "";
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || !(number > 0)) throw BadInput(words[at - 1] + " " + word + ": expected a number above 0");
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    options.command += " " + words[i];
    if (words[i] == "--unseen") unseen = true;
    else if (words[i] == "--check") check = true;
    else if (words[i] == "--pass") {
      pass = ++i < words.size() ? words[i] : "";
      if (pass != "forward" && pass != "backward") throw BadInput("--pass " + pass + ": expected forward or backward");
    } else if (words[i] == "--within") value(++i, within);
    else if (words[i] == "--multiprocessors") value(++i, options.multiprocessors), options.command += " " + words[i];
    else if (words[i].starts_with("-")) throw BadInput("unknown flag '" + words[i] + "'\n" + kUsage);
    else paths.push_back(words[i]);
  }
  if (unseen ? check || !paths.empty() : paths.empty() || !pass.empty()) throw BadInput(kUsage);
  if (unseen) {
    std::cout << unseen_suite(auto_table(), pass.empty() ? "forward" : pass);
    return 0;
  }
  std::vector<NamedRecords> records;
  for (const std::string& path : paths) records.emplace_back(path, read_records(path));
  if (!check) {
    std::cout << fitted_table(records, options);
    return 0;
  }
  const AutoCheck result = check_auto(records, within);
  std::cout << result.text;
  return result.passes ? 0 : 1;
}

}  // namespace
}  // namespace prnn

int main(int argc, char** argv) {
  try {
    return prnn::main_command({argv + 1, argv + argc});
  } catch (const prnn::BadInput& error) {
    std::cerr << error.what() << std::endl;
    return 64;
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 5;
  }
}
