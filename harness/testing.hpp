// testing.hpp: what input is refused with, and a machine whose clock is a script: launches say how long they took, and everything the harness asks of it is counted.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/primitives/machine_host.hpp"

namespace prnn::testing {

/// What f() refuses its input with; "accepted" where it does not.
inline std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const BadInput& error) {
    return error.what();
  }
  return "accepted";
}

class ScriptedMachine : public HostMachine {
 public:
  std::string name = "cpu";
  std::int64_t cache_bytes = 1000, free = 1 << 30;
  double now_s = 100, launch_time_s = 1e-3;  // a launch may set launch_time_s while it runs
  double host_overhead_s = 0;                // host_s = time + this
  std::optional<double> clock = 1500.0;
  std::optional<GpuInfo> gpu_info;
  std::optional<double> graph_time_s;                            // none: cannot be captured
  std::vector<bool> queued;                                      // of each timed launch
  std::vector<std::pair<const void*, std::int64_t>> zero_fills;  // evictions
  std::int64_t allocated = 0, allocations = 0, timed_launches = 0;
  int graph_launches = 0;
  bool lost = false;  // as a context of CUDA after a fault: nothing that waits for it succeeds

  std::string_view device() const override { return name; }
  void synchronise() override {
    if (lost) throw DeviceError("the context is lost");
  }
  std::optional<GpuInfo> gpu() const override { return gpu_info; }
  std::int64_t free_bytes() const override { return free; }
  std::int64_t last_level_cache_bytes() const override { return cache_bytes; }
  void* allocate(std::int64_t bytes) override {
    void* data = HostMachine::allocate(bytes);
    allocated += bytes, ++allocations;
    return data;
  }
  void fill(void* to, unsigned char byte, std::int64_t bytes) override {
    if (byte == 0) zero_fills.emplace_back(to, bytes);
    HostMachine::fill(to, byte, bytes);
  }
  Sample time(const std::function<void(Stream)>& launch, bool is_queued) override {
    queued.push_back(is_queued);
    ++timed_launches;
    launch(nullptr);
    now_s += launch_time_s;
    return {launch_time_s, launch_time_s + host_overhead_s};
  }
  std::optional<double> time_graph(const std::function<void(Stream, int)>& launch, int launches) override {
    if (!graph_time_s) return std::nullopt;
    graph_launches = launches;
    for (int i = 0; i < launches; ++i) launch(nullptr, i);
    return graph_time_s;
  }
  std::optional<double> clock_mhz() override { return clock; }
  double copy_bytes_per_s() override { return 1e9; }
  double launch_s() override { return 1e-6; }
};

}  // namespace prnn::testing
