// timer.cpp: see timer.hpp.
#include "harness/timer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "harness/statistics.hpp"
#include "kernels/fault.hpp"

namespace prnn {
namespace {

std::int64_t aligned(std::int64_t bytes) { return (bytes + 255) / 256 * 256; }  // as cudaMalloc aligns

struct Running {
  const Subject& subject;
  Timing timing;
  double spent_s = 0, sampling_s = 0, warm_up_s = 0;
  std::vector<double> sorted, half_widths;
  bool done() const { return timing.stop != Stop::none; }
};

class GroupTimer {
 public:
  GroupTimer(Machine& machine, BufferSets& buffers, const TimerOptions& options) : machine_(machine), buffers_(buffers), options_(options), random_(options.order_seed) {
    if (!options_.now) options_.now = steady_now_s;
    if (!options_.interrupted) options_.interrupted = [] { return false; };
  }

  GroupTiming run(const std::vector<Subject>& subjects) {
    for (const Subject& subject : subjects) cases_.push_back({.subject = subject, .timing = {}, .spent_s = subject.spent_s, .sorted = {}, .half_widths = {}});
    GroupTiming result;
    for (Running& c : cases_) guarded(c, [&] { warm_up(c); });
    if (options_.next_turn) take_turns();
    else take_rounds(result);
    for (Running& c : cases_) {
      if (c.timing.stop <= Stop::total_time) guarded(c, [&] { in_graph(c); });
      describe(c);
      result.cases.push_back(std::move(c.timing));
    }
    return result;
  }

 private:
  void take_rounds(GroupTiming& result) {
    for (;;) {
      std::vector<int> round;
      for (std::size_t i = 0; i < cases_.size(); ++i) {
        if (!cases_[i].done()) round.push_back(static_cast<int>(i));
      }
      if (round.empty()) break;
      random_.shuffle(round);
      std::vector<int> sampled;
      for (const int i : round) {
        Running& c = cases_[static_cast<std::size_t>(i)];
        if (out_of_time(c)) continue;
        sampled.push_back(i);
        guarded(c, [&] { sample(c); });
      }
      if (!sampled.empty()) result.rounds.push_back(std::move(sampled));
    }
  }

  void take_turns() {
    while (const std::optional<Turn> turn = options_.next_turn()) {
      if (turn->subject < 0) {
        for (Running& c : cases_) forget(c);
        continue;
      }
      Running& c = cases_.at(static_cast<std::size_t>(turn->subject));
      const double start = options_.now();
      TurnTiming taken;
      if (!c.done() && !out_of_time(c)) guarded(c, [&] { taken = take_turn(c, turn->samples); });
      if (taken.samples > 0) c.timing.turns.push_back(taken);
      options_.turn_taken(*turn, taken.samples, options_.now() - start);
    }
    for (Running& c : cases_) {
      if (!c.done()) c.timing.stop = Stop::turns;
    }
  }

  TurnTiming take_turn(Running& c, int samples) {
    const Tensors tensors = buffers_.set(buffers_.next());
    launch_once(c, tensors);
    checked(c, tensors);
    TurnTiming taken;
    const double start = options_.now();
    const auto more = [&] { return taken.samples < samples && (taken.samples < kMinTurnSamples || options_.now() - start < kTurn_s); };
    while (more() && c.timing.samples_s.size() < kMaxSamples && !c.done()) {
      sample(c);
      ++taken.samples;
    }
    c.timing.clock_mhz = taken.clock_mhz = machine_.clock_mhz();
    return taken;
  }

  /// Of a case whose time is not up for good.
  void forget(Running& c) {
    c.timing.samples_s.clear(), c.timing.host_s.clear(), c.timing.turns.clear();
    c.sorted.clear(), c.half_widths.clear();
  }

  /// Runs a step of one case, charging its wall clock to it; what it throws ends that case only.
  template <class F>
  void guarded(Running& c, F&& step) {
    const double start = options_.now();
    if (c.subject.before) c.subject.before();
    try {
      step();
    } catch (...) {
      c.timing.error = std::current_exception();
      c.timing.stop = Stop::error;
    }
    if (c.timing.error && c.subject.failed) c.subject.failed(c.timing.error);
    c.spent_s += options_.now() - start;
  }

  bool out_of_time(Running& c) {
    if (options_.interrupted()) c.timing.stop = Stop::interrupted;
    else if (options_.now() >= options_.deadline_s) c.timing.stop = Stop::total_time;
    else if (c.spent_s >= options_.case_s) c.timing.stop = Stop::case_time;
    if (c.done() && !c.sorted.empty()) c.timing.clock_mhz = machine_.clock_mhz();
    return c.done();
  }

  bool queued(const Running& c) const { return c.subject.launches <= kMaxQueuedLaunches; }

  Sample launch_once(Running& c, const Tensors& tensors) {
    return machine_.time([&](Stream stream) { c.subject.launch(tensors, stream); }, queued(c));
  }

  void warm_up(Running& c) {
    const int most = options_.paper ? kPaperWarmUps : kWarmUps;
    const double start = options_.now();
    for (int i = 0; i < most; ++i) {
      if (options_.interrupted() || c.spent_s + options_.now() - start >= options_.case_s) break;
      const Tensors tensors = buffers_.set(buffers_.next());
      const Sample s = launch_once(c, tensors);
      c.warm_up_s = s.time_s;
      poison(machine_, tensors);
      if (options_.paper ? s.time_s > kPaperSlow_s : options_.now() - start >= kWarmUp_s) break;
    }
  }

  void sample(Running& c) {
    const double start = options_.now();
    const Tensors tensors = buffers_.set(buffers_.next());
    if (buffers_.hot()) {  // the other cases of the round have had the caches meanwhile
      launch_once(c, tensors);
      poison(machine_, tensors);
    }
    const Sample s = launch_once(c, tensors);
    c.timing.samples_s.push_back(s.time_s);
    c.timing.host_s.push_back(s.host_s);
    c.sorted.insert(std::upper_bound(c.sorted.begin(), c.sorted.end(), s.time_s), s.time_s);
    c.half_widths.push_back(relative_half_width(c.sorted));
    c.sampling_s += options_.now() - start;
    if (!options_.next_turn) c.timing.stop = enough(c);
    if (c.done()) c.timing.clock_mhz = machine_.clock_mhz();
    checked(c, tensors);
  }

  void checked(Running& c, const Tensors& tensors) {
    if (std::string wrong = c.subject.check(tensors); !wrong.empty()) {
      c.timing.wrong = std::move(wrong);
      c.timing.stop = Stop::wrong;
    }
    PRNN_FAULT(48, poison(machine_, tensors), void());
  }

  Stop enough(const Running& c) const {
    const int n = static_cast<int>(c.sorted.size());
    if (options_.paper) return n >= (c.warm_up_s > kPaperSlow_s ? kPaperSlowSamples : kPaperSamples) ? Stop::samples : Stop::none;
    if (n < kMinSamples) return Stop::none;
    if (c.half_widths.back() <= kTargetHalfWidth) return Stop::interval;
    if (c.sampling_s >= kCaseBudget_s && c.half_widths.back() <= kNoisyHalfWidth) return Stop::budget;
    const std::span<const double> finite = std::span(c.half_widths).subspan(kMinSamples - 1);
    if (plateaued(finite)) return Stop::plateau;
    return n >= kMaxSamples ? Stop::samples : Stop::none;
  }

  void in_graph(Running& c) {
    Timing& t = c.timing;
    if (machine_.device() != "cuda") return void(t.graph_null_reason = "no graphs on this device");
    if (t.samples_s.empty()) return void(t.graph_null_reason = "no samples");
    const double centre = median(t.samples_s);
    if (!(centre < kGraphBelow_s)) return void(t.graph_null_reason = "50 us or more");
    if (!c.subject.capturable) return void(t.graph_null_reason = "the solver cannot stand inside a graph");
    const std::int64_t n = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(1e-3 / centre)), 10, 100);  // about 1 ms of work
    std::vector<Tensors> sets;
    for (std::int64_t i = 0; i < n; ++i) sets.push_back(buffers_.set(buffers_.next()));
    t.graph_s = machine_.time_graph([&](Stream stream, int i) { c.subject.launch(sets[static_cast<std::size_t>(i)], stream); }, static_cast<int>(n));
    if (!t.graph_s) return void(t.graph_null_reason = "the launch could not be captured");
    t.graph_launches = static_cast<int>(n);
    const auto distinct = static_cast<std::size_t>(std::min(n, buffers_.count()));
    for (std::size_t i = 0; i < distinct && t.wrong.empty(); ++i) checked(c, sets[i]);
  }

  void describe(Running& c) const {
    Timing& t = c.timing;
    const bool cuda = machine_.device() == "cuda";
    t.method = cuda ? queued(c) ? "events behind a queued delay" : fmt::format("events, no delay: {} launches", c.subject.launches) : "steady clock";
    t.method += "; " + buffers_.describe();
    if (options_.paper) t.method += "; protocol of the paper";
    if (t.graph_launches) t.method += fmt::format("; graph of {} launches", *t.graph_launches);
    t.method += fmt::format("; order seed {}; stopped by {}", options_.order_seed, to_string(t.stop));
  }

  Machine& machine_;
  BufferSets& buffers_;
  TimerOptions options_;
  Random random_;
  std::vector<Running> cases_;
};

}  // namespace

void poison(Machine& machine, const Tensors& tensors) {
  for (const Tensors::Item& item : tensors.items) {
    if (item.spec.written()) machine.fill(item.data, 0xff, item.spec.bytes());
  }
}

void* Arena::at_least(std::int64_t bytes) {
  if (buffer_.bytes() < bytes || buffer_.bytes() > std::max(4 * bytes, kKeptBytes)) {
    buffer_ = Buffer();  // first gone, then new: both at once may not fit
    buffer_ = Buffer(*machine_, bytes);
  }
  return buffer_.data();
}

BufferSets::BufferSets(Arena& arena, Arena& scratch, std::vector<TensorSpec> specs, std::int64_t sets, bool hot) : arena_(&arena), scratch_(&scratch), hot_(hot) {
  count_ = hot ? 1 : std::clamp<std::int64_t>(sets, 1, kMaxSets);
  evicts_ = !hot && count_ < sets;
  if (evicts_) evicted_bytes_ = 2 * arena.machine().last_level_cache_bytes();
  std::vector<std::int64_t> offsets;
  for (const TensorSpec& spec : specs) {
    offsets.push_back(stride_);
    stride_ += aligned(spec.bytes());
    bytes_ += spec.bytes();
  }
  auto* base = static_cast<char*>(arena.at_least(stride_ * count_));
  for (std::size_t i = 0; i < specs.size(); ++i) first_.items.push_back({std::move(specs[i]), base + offsets[i]});
}

Tensors BufferSets::set(std::int64_t index) const {
  Tensors tensors = first_;
  for (Tensors::Item& item : tensors.items) item.data = static_cast<char*>(item.data) + index * stride_;
  return tensors;
}

void BufferSets::replicate() {
  Machine& machine = arena_->machine();
  poison(machine, first_);
  auto* base = static_cast<char*>(first_.items.front().data);
  for (std::int64_t have = 1; have < count_; have *= 2) machine.copy(base + have * stride_, base, std::min(have, count_ - have) * stride_);
  turn_ = 0;
}

std::int64_t BufferSets::next() {
  if (turn_ == 0 && evicts_) {
    Machine& machine = arena_->machine();
    machine.fill(scratch_->at_least(evicted_bytes_), 0, evicted_bytes_);
    machine.synchronise();
  }
  const std::int64_t index = turn_;
  turn_ = (turn_ + 1) % count_;
  return index;
}

std::string BufferSets::describe() const {
  if (hot_) return "hot: one set of buffers, the same launch just before";
  std::string text = fmt::format("rotating over {} sets of {} bytes", count_, bytes_);
  if (evicts_) text += fmt::format(", cache evicted by writing {} bytes before each pass over them", evicted_bytes_);
  return text;
}

std::string to_string(Stop stop) {
  switch (stop) {
    case Stop::none: return "nothing";
    case Stop::interval: return "interval width";
    case Stop::budget: return "time budget";
    case Stop::plateau: return "plateau";
    case Stop::samples: return "number of samples";
    case Stop::turns: return "the turns of run --against";
    case Stop::case_time: return "case_s";
    case Stop::total_time: return "total_s";
    case Stop::interrupted: return "interrupt";
    case Stop::wrong: return "a wrong result";
    case Stop::error: return "an error";
  }
  return "";
}

double steady_now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

GroupTiming time_group(Machine& machine, BufferSets& buffers, const std::vector<Subject>& subjects, const TimerOptions& options) {
  return GroupTimer(machine, buffers, options).run(subjects);
}

}  // namespace prnn
