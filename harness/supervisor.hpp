// supervisor.hpp: does the work of a sweep in a process of its own. A case that faults, hangs or takes the device with it ends that process alone, gets a row that says so, and a fresh
// process does the rest.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "harness/suite.hpp"

namespace prnn {

/// What became of a case that ended its process: error (a fault) or timeout (it hung).
struct EndedCase {
  Status status;
  std::string reason;
};
using EndedCases = std::map<std::string, EndedCase>;  // by case_id

struct Attempt;

/// What a process says of itself, in memory that it shares with its supervisor and that outlives it.
class FlightNote {
 public:
  /// A step of this case begins: it is to blame for what ends or stops the process from now on. Empty: no case is.
  void set(std::string_view case_id);
  /// The device is lost to this process, and why: with the case, the last thing it says.
  void lost(std::string_view case_id, std::string_view reason);

 private:
  friend int supervise(double, const std::function<int(const Attempt&)>&);
  static constexpr std::size_t kMostBytes = 4096;  // longer texts are cut
  std::atomic<std::uint64_t> steps_ = 0;           // a value that stays is a step that does not end
  std::atomic<bool> busy_ = false;
  char case_id_[kMostBytes] = {}, reason_[kMostBytes] = {};
};

/// What a process of the work is given.
struct Attempt {
  const EndedCases& ended;  // these are not run again
  FlightNote& note;
  double spent_s;  // since supervise() began
  bool first() const { return ended.empty(); }
};

/// Calls work in a child process, and again in a fresh one after each that a case has ended; its exit code once it returns. A case whose step takes patience_s is killed.
/// What ends a process while no case is in flight is not tried again: exit code 5. To be called before the caller has threads or a GPU: neither survives a fork.
/// Signals that ask the caller to end or stop go to the child; a child that they end ends the caller by the same. A caller that is killed takes its child along.
int supervise(double patience_s, const std::function<int(const Attempt&)>& work);

}  // namespace prnn
