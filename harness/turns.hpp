// turns.hpp: the end of `run --against` that measures. Two programs run the same plan at once, each in a process of its own; a third process (harness/against.cpp) says over pipes whose turn
// it is, and writes what they find. One JSON object a line, each way:
//   the program that measures                           the one that gives turns
//   {"hello": 1, "head": provenance}                    {"begin": {"order_seed": S, "judge": b, "copy_bytes_per_s": x}}   judge: hold results against 50 digits; x null: measure it
//   {"plan": [{"group_id": G, "case_ids": [...]}],
//    "copy_bytes_per_s": x, "launch_s": t}              {"todo": [group_id, ...]}
//   {"working": what}                                   nothing: a sign of life
//   {"ready": group_id, "cases": [case_id, ...]}        {"turn": i, "samples": n}: take so many of cases[i]; {"again": true}: forget those of this group; {"end": true}
//   {"visited": i, "samples": n, "spent_s": t}          as after ready
//   {"rows": [row, ...]}                                nothing: the group is at its end
// A program that begins anew after a fault says hello again. The end of its input ends it as an interrupt does.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/record.hpp"
#include "harness/timer.hpp"

namespace prnn {

inline constexpr int kTurnsVersion = 1;

/// Lines to and from another process; reads no byte beyond a line, so a process that takes over finds the pipe as it should be.
class LinePipe {
 public:
  LinePipe(int in, int out) : in_(in), out_(out) {}
  /// The next line without its newline; none: the other end is closed. Waits.
  std::optional<std::string> read() const;
  /// False: the other end is closed.
  bool write(std::string_view line) const;

 private:
  int in_, out_;
};

class Turns {
 public:
  Turns(int in, int out) : pipe_(in, out) {}

  struct Begin {
    std::uint64_t order_seed = 1;
    bool judge = true;
    std::optional<double> copy_bytes_per_s;
  };
  /// None: the one that gives turns is gone. Throws BadInput where it says what no turn-giver does; so do the others.
  std::optional<Begin> begin(const Provenance& head);
  /// Those of the plan's groups that are to be done, in its order; the rates are for the record's head.
  std::vector<Group> todo(std::vector<Group> plan, double copy_bytes_per_s, double launch_s);
  void working(std::string_view what) const;
  /// The group is prepared, and these of its cases can be timed.
  void ready(const std::string& group_id, const std::vector<std::string>& case_ids);
  /// The next turn; none: the group is at its end, or closed().
  std::optional<Turn> next();
  void visited(int subject, std::int64_t samples, double spent_s) const;
  /// Waits for the end of a group, announcing it where nothing of it could be timed.
  void wait_for_end(const std::string& group_id);
  void rows(const std::vector<CaseRecord>& group) const;
  /// The one that gives turns is gone.
  bool closed() const { return closed_; }

 private:
  std::optional<Json> read();
  LinePipe pipe_;
  std::string announced_;  // the last group
  bool in_group_ = false, closed_ = false;
};

}  // namespace prnn
