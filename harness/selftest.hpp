// selftest.hpp: the seeded faults (kernels/fault.hpp), the checks that have to catch them, and what is said of who caught whom.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

/// A fault, PRNN_FAULT(id, ..) somewhere in the sources, and the name of the check that is to catch it and runs first; "": nobody has said, and all run in order.
struct Fault {
  int id;
  const char *layer, *what, *check;
};
/// By id.
const std::vector<Fault>& faults();

/// A command that fails where something is wrong: of the program with all faults in it, or of the project's tests linked with the same objects. None is written for one fault.
struct Check {
  const char *name, *program,
      *arguments;  // arguments: of the program, as a shell reads them from the root of the sources; of the tests, patterns of their names, those not wanted after a -
};
/// The cheaper ones first.
const std::vector<Check>& checks();

/// "file:line" of every PRNN_FAULT(id, ..) in a source, not a test, under kernels/, reference/ and harness/, by id.
std::map<int, std::vector<std::string>> fault_places(const std::filesystem::path& root);

/// What is wrong with the patterns of checks: the first that fits no test would check nothing. listing: what --gtest_list_tests prints. Empty: nothing.
std::string pattern_without_test(const std::vector<Check>&, const std::string& listing);

/// How a check ended. code: of timeout(1), which runs it: its own, 124 where its time was spent, above where a signal ended it.
struct Ended {
  int code = 0;
  double time_s = 0;
  std::string out;
};

/// A fault that was on while checks ran.
struct Tried {
  const Fault* fault;
  bool hidden;        // no result that a trivial test would look at is wrong
  const Check* by;    // the check that caught it; null: none
  bool died = false;  // a program did not come back, or ended by a signal: seen without any check
  double time_s = 0;  // of the checks until one caught it
};
/// Runs the fault's own check, then the others in order, until one fails. One that does not come back has caught nothing.
Tried try_checks(const Fault&, bool hidden, const std::vector<Check>&, const std::function<Ended(const Check&)>& run);

/// Of all faults as many have to be hidden, or they are too large to show anything.
inline constexpr int kFewestHidden = 40;
std::string to_table(const std::vector<Tried>&, const std::map<int, std::vector<std::string>>& places);
Json to_json(const std::vector<Tried>&, const std::map<int, std::vector<std::string>>& places);
/// Exit code: 2 where a fault is not caught, or fewer than kFewestHidden are hidden.
int exit_code(const std::vector<Tried>&);

}  // namespace prnn
