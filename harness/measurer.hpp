// measurer.hpp: a program that measures when it is told to (harness/turns.hpp), seen from the process that tells it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/record.hpp"

namespace prnn {

/// A program that is no prnn, hangs or ends before it is done: one line, and its exit code.
struct ProgramFailed : std::runtime_error {
  ProgramFailed(const std::string& line, int exit_code) : std::runtime_error(line), code(exit_code) {}
  int code;
};

/// The interrupt key while a program was waited for.
struct Interrupted {};

class Measurer {
 public:
  struct PlannedGroup {
    std::string group_id;
    std::vector<std::string> case_ids;
  };
  /// What it is told as it begins, once or anew after a fault.
  struct Orders {
    std::function<Json(const Provenance& head)> begin;
    std::function<std::vector<std::string>(const std::vector<PlannedGroup>& plan, double copy_bytes_per_s, double launch_s)> todo;  // group_ids
  };
  struct Visited {
    std::int64_t samples = 0;
    double spent_s = 0;
  };

  /// Starts the program; words: its arguments. patience_s: silence after which it is taken for dead. Throws ProgramFailed where it cannot be started.
  Measurer(std::string program, const std::vector<std::string>& words, double patience_s, Orders);
  Measurer(const Measurer&) = delete;
  ~Measurer();  // ends the process, and says what it left on stderr

  /// Waits until the program is up: it has its device, and measures nothing before advance().
  void greet();
  /// Waits until a group is ready or the program has ended, as it should. The others need a ready group.
  void advance();
  bool ended() const { return ended_; }
  const std::string& group_id() const { return group_id_; }
  const std::vector<std::string>& cases() const { return cases_; }
  bool has_yet_to_do(const std::string& group_id) const;

  /// So many samples of cases()[index]; none: it has begun anew instead.
  std::optional<Visited> take_turn(std::size_t index, int samples);
  void again();
  /// Ends the group; its rows, none where it has begun anew.
  std::optional<std::vector<CaseRecord>> end_group();

 private:
  Json answer();  // the next line that is no sign of life; null: at its end
  bool begun_anew(const Json&);
  std::optional<std::string> line();
  void say(const Json&) const;
  void finish();
  [[noreturn]] void fail(const std::string& why);
  std::string last_words() const;

  std::string program_;
  double patience_s_;
  Orders orders_;
  pid_t child_ = -1;
  int in_ = -1, out_ = -1, said_ = -1;  // its stdout, stdin, and a file with its stderr
  std::string buffer_;
  std::optional<std::string> greeting_;  // not yet answered
  std::string group_id_;
  std::vector<std::string> cases_, todo_;
  bool greeted_ = false, ready_ = false, ended_ = false, failed_ = false;
};

}  // namespace prnn
