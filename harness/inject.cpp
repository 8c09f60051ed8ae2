// inject.cpp: see inject.hpp.
#include "harness/inject.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>
#include <vector>

#include "harness/nearest.hpp"
#include "harness/statistics.hpp"
#include "harness/timer.hpp"

namespace prnn {
namespace {

constexpr int kCalibrationSamples = 15;
constexpr std::int64_t kProbeSteps = 1 << 15;  // about 0.1 ms: far above what a clock or an event resolves

class Damaged final : public InjectedRun {
 public:
  Damaged(const Injection& injection, std::unique_ptr<Run> inner, Machine& machine) : injection_(injection), inner_(std::move(inner)), machine_(machine) {}

  Policy policy() const override { return inner_->policy(); }
  std::string_view solver() const override { return inner_->solver(); }
  int launches() const override { return inner_->launches() + 1; }
  bool capturable() const override { return inner_->capturable(); }
  void launch(const Tensors& tensors, Stream stream) override {
    inner_->launch(tensors, stream);
    damage(tensors, stream);
  }
  void trace(const Tensors& tensors, Stream stream) override {
    inner_->trace(tensors, stream);
    damage(tensors, stream);
  }
  Outcome outcome() override { return inner_->outcome(); }

  void calibrate(Machine& machine, const std::function<Tensors()>& next) override {
    if (!injection_.slowdown) return;
    const auto time_s = [&](const std::function<void(Stream)>& work) { return machine.time(work, launches() <= kMaxQueuedLaunches).time_s; };
    const auto solve = [&](Stream stream) { inner_->launch(next(), stream); };
    std::vector<double> alone_s, with_none_s, none_s, probe_s;
    for (int i = 0; i < kCalibrationSamples; ++i) {
      alone_s.push_back(time_s(solve));
      with_none_s.push_back(time_s([&](Stream stream) {
        solve(stream);
        machine.spin(0, stream);
      }));
      none_s.push_back(time_s([&](Stream stream) { machine.spin(0, stream); }));
      probe_s.push_back(time_s([&](Stream stream) { machine.spin(kProbeSteps, stream); }));
    }
    const double step_s = (median(probe_s) - median(none_s)) / static_cast<double>(kProbeSteps);
    const double wanted_s = *injection_.slowdown * median(alone_s), launch_s = std::max(0.0, median(with_none_s) - median(alone_s));
    steps_ = step_s > 0 ? std::max<std::int64_t>(0, std::llround((wanted_s - launch_s) / step_s)) : 0;
  }

  std::string describe() const override { return fmt::format("injected {}{}", injection_.text, injection_.slowdown ? fmt::format(" ({} steps of work a launch)", steps_) : ""); }

 private:
  void damage(const Tensors& tensors, Stream stream) {
    if (injection_.slowdown && steps_ >= 0) machine_.spin(steps_, stream);
    if (!injection_.truncate) return;
    for (const Tensors::Item& item : tensors.items) {
      if (item.spec.written()) machine_.clear_low_bits(item.data, item.spec.elements(), item.spec.type, *injection_.truncate, stream);
    }
  }

  Injection injection_;
  std::unique_ptr<Run> inner_;
  Machine& machine_;
  std::int64_t steps_ = -1;  // not calibrated: nothing is launched
};

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Injection parse_injection(const std::string& text) {
  const auto refused = [&](const std::string& why) { return BadInput(fmt::format("--inject {}: {}", text, why)); };
  const std::size_t equals = text.find('='), colon = text.find(':');
  if (equals == std::string::npos || colon < equals) throw refused("expected slowdown=SHARE, truncate=BITS or iteration_limit=N, and :SOLVER where not all are meant");
  const std::string kind = text.substr(0, equals), value = text.substr(equals + 1, colon == std::string::npos ? colon : colon - equals - 1);
  Injection injection{.text = text, .slowdown = {}, .truncate = {}, .iteration_limit = {}, .solver = colon == std::string::npos ? "" : text.substr(colon + 1)};
  if (const auto names = solver_names(); colon != std::string::npos && std::find(names.begin(), names.end(), injection.solver) == names.end()) {
    throw refused(fmt::format("unknown solver '{}'{}", injection.solver, did_you_mean(injection.solver, names)));
  }
  if (kind == "slowdown") {
    injection.slowdown = number<double>(value);
    if (!injection.slowdown || !(*injection.slowdown > 0) || !(*injection.slowdown <= 10)) throw refused("expected a share above 0, at most 10, such as slowdown=0.03");
  } else if (kind == "truncate") {
    injection.truncate = number<int>(value);
    if (!injection.truncate || *injection.truncate < 1 || *injection.truncate > 16) throw refused("expected 1 to 16 bits, such as truncate=4");
  } else if (kind == "iteration_limit") {
    injection.iteration_limit = number<int>(value);
    if (!injection.iteration_limit || *injection.iteration_limit < 1 || *injection.iteration_limit > 1000) throw refused("expected 1 to 1000, such as iteration_limit=2");
  } else {
    throw refused(fmt::format("unknown damage '{}'{}", kind, did_you_mean(kind, {"slowdown", "truncate", "iteration_limit"})));
  }
  return injection;
}

std::unique_ptr<InjectedRun> prepare_injected(const Injection& injection, const Solver& solver, Problem problem, Machine& machine) {
  if (injection.iteration_limit) problem.iteration_limit = injection.iteration_limit;
  return std::make_unique<Damaged>(injection, solver.prepare(problem, machine), machine);
}

}  // namespace prnn
