// timer.hpp: the sampling loop (design section 7): a group of cases on the same tensors, interleaved in a recorded order, each until its interval is narrow enough or its time is up.
// Times nothing itself: Machine::time does. What each timed launch wrote is handed to the case's check, on poisoned memory.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/api.hpp"

namespace prnn {

inline constexpr int kMinSamples = 20, kMaxSamples = 200;
inline constexpr double kTargetHalfWidth = 0.01;  // of the median; reached: enough
inline constexpr double kCaseBudget_s = 0.25;     // wall clock after which a case must only be better than ...
inline constexpr double kNoisyHalfWidth = 0.05;   // ... this
inline constexpr int kMinTurnSamples = 2;         // of a turn that was asked for more, ...
inline constexpr double kTurn_s = 0.02;           // ... after which so much wall clock is enough
inline constexpr int kWarmUps = 10;
inline constexpr double kWarmUp_s = 0.05;
inline constexpr int kPaperWarmUps = 20, kPaperSamples = 100, kPaperSlowSamples = 3;
inline constexpr double kPaperSlow_s = 0.05;
inline constexpr double kGraphBelow_s = 50e-6;   // shorter launches are measured in a graph too
inline constexpr int kMaxQueuedLaunches = 1000;  // more would overrun the queue behind the delay kernel
inline constexpr std::int64_t kMaxSets = 512;
inline constexpr std::int64_t kKeptBytes = 256 << 20;  // an arena this large is kept although the next group needs less than a quarter of it

/// Overwrites every output with bytes 0xff: NaN in every storage type, so an element that is not written fails every check.
void poison(Machine&, const Tensors&);

/// Memory that outlives a group: the next one reuses it where it fits, which saves the page faults of a fresh allocation.
class Arena {
 public:
  explicit Arena(Machine& machine) : machine_(&machine) {}
  void* at_least(std::int64_t bytes);  // throws OutOfMemory; ends the life of what it gave before
  Machine& machine() const { return *machine_; }

 private:
  Machine* machine_;
  Buffer buffer_;
};

/// Several sets of the same tensors, used in turn, so that what a launch reads has left the last-level cache since it was last touched. Where the number is capped below that, the cache is
/// evicted (scratch of 2 x its size, written) before each pass over the sets: each set is used once a pass, so it is cold all the same.
class BufferSets {
 public:
  /// sets: as planned (rotating_sets); 1 and hot: the same memory every time. Throws OutOfMemory.
  BufferSets(Arena& arena, Arena& scratch, std::vector<TensorSpec> specs, std::int64_t sets, bool hot);
  const Tensors& first() const { return first_; }
  Tensors set(std::int64_t index) const;
  std::int64_t count() const { return count_; }
  bool hot() const { return hot_; }
  bool evicts() const { return evicts_; }
  /// Poisons the first set and copies it over all the others; the next pass starts at 0.
  void replicate();
  /// The set for the next launch; evicts when a pass begins.
  std::int64_t next();
  std::string describe() const;

 private:
  Arena* arena_;
  Arena* scratch_;
  Tensors first_;
  std::int64_t stride_ = 0, count_ = 1, turn_ = 0, bytes_ = 0, evicted_bytes_ = 0;
  bool hot_, evicts_ = false;
};

struct Subject {
  std::function<void(const Tensors&, Stream)> launch;
  int launches = 1;
  bool capturable = true;
  /// What is wrong with the output of a timed launch; empty: nothing.
  std::function<std::string(const Tensors&)> check;
  double spent_s = 0;                                     // wall clock already used, of case_s
  std::function<void()> before;                           // each step of this case, outside of what is timed; empty: nothing
  std::function<void(const std::exception_ptr&)> failed;  // told what a step threw; may throw, which ends the timing of the group; empty: nothing
};

/// So many samples of one subject, one after the other; the default: forget all that were taken.
struct Turn {
  int subject = -1, samples = 0;
};

/// What a turn gave.
struct TurnTiming {
  std::int64_t samples = 0;
  std::optional<double> clock_mhz;
};

enum class Stop { none, interval, budget, plateau, samples, turns, case_time, total_time, interrupted, wrong, error };
std::string to_string(Stop);

struct Timing {
  std::vector<double> samples_s, host_s;  // index = round: a case takes part in every round until it stops
  std::vector<TurnTiming> turns;          // where turns are given; samples_s is theirs, one after the other
  std::optional<double> graph_s, clock_mhz;
  std::optional<int> graph_launches;
  std::string graph_null_reason;  // why graph_s is absent
  std::string method;
  Stop stop = Stop::none;
  std::string wrong;  // what check() said
  std::exception_ptr error;
};

struct TimerOptions {
  bool paper = false;
  std::uint64_t order_seed = 1;
  double case_s = 20;                 // wall clock for one case
  double deadline_s = 1e300;          // on `now`, for the sweep
  std::function<double()> now;        // seconds; empty: steady clock
  std::function<bool()> interrupted;  // asked before each sample; empty: never
  /// Where another says what is sampled when: the next turn, none: enough; and what came of it (0 samples: the case's time is up). Empty: rounds of all cases.
  std::function<std::optional<Turn>()> next_turn;
  std::function<void(const Turn&, std::int64_t samples, double spent_s)> turn_taken;
};

struct GroupTiming {
  std::vector<Timing> cases;             // as the subjects
  std::vector<std::vector<int>> rounds;  // which subject was sampled when
};

double steady_now_s();

/// Warms each up, then rounds in which every case still running is sampled once, shuffled anew from order_seed; or turns as they are given, each after an unrecorded launch, because another
/// program has had the machine meanwhile. An exception of one case is its result alone.
GroupTiming time_group(Machine&, BufferSets&, const std::vector<Subject>&, const TimerOptions&);

}  // namespace prnn
