// Machines: memory, copies, comparison, clocks. Each test runs on every machine this computer has; the CPU and the emulator always.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kernels/primitives/machine_host.hpp"

namespace prnn {
namespace {

using std::chrono::milliseconds;

class EveryMachine : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (const MachineEntry& entry : machines()) {
      if (entry.device != GetParam()) continue;
      const std::string reason = entry.why_not();
      if (!reason.empty()) {
        EXPECT_EQ(reason.find('\n'), std::string::npos);
        EXPECT_THROW(entry.open(), DeviceError);
        GTEST_SKIP() << reason;
      }
      machine = entry.open();
      return;
    }
    if (GetParam() == "cuda") GTEST_SKIP() << "built without CUDA";
    FAIL() << GetParam() << " is not registered";
  }
  bool on_host() const { return GetParam() != "cuda"; }
  std::vector<unsigned char> read(const Buffer& buffer) {
    std::vector<unsigned char> bytes(std::size_t(buffer.bytes()));
    machine->download(bytes.data(), buffer.data(), buffer.bytes());
    return bytes;
  }

  std::unique_ptr<Machine> machine;
};
INSTANTIATE_TEST_SUITE_P(Machines, EveryMachine, ::testing::Values("cpu", "emulated", "cuda"), [](const auto& info) { return info.param; });

TEST_P(EveryMachine, IsNamedAfterItsDevice) {
  EXPECT_EQ(machine->device(), GetParam());
  EXPECT_EQ(machine->gpu().has_value(), !on_host());
}

TEST_P(EveryMachine, RefusesMoreMemoryThanIsFreeBeforeTouchingIt) {
  for (const std::int64_t bytes : {machine->free_bytes() + (std::int64_t(1) << 32), std::numeric_limits<std::int64_t>::max(), std::int64_t(-1)}) {
    try {
      machine->release(machine->allocate(bytes));
      ADD_FAILURE() << "allocated " << bytes;
    } catch (const OutOfMemory& error) {
      EXPECT_NE(std::string(error.what()).find(" are free"), std::string::npos) << error.what();  // not the system's own refusal
    }
  }
}

TEST_P(EveryMachine, GivesAlignedMemoryAlsoForNoBytes) {
  for (const std::int64_t bytes : {0, 1, 63, 65, 1000}) {
    const Buffer buffer(*machine, bytes);
    ASSERT_NE(buffer.data(), nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
  }
}

TEST_P(EveryMachine, PoisonsNewHostMemory) {
  if (!on_host()) GTEST_SKIP() << "device memory is poisoned by its users";
  for (int repeat = 0; repeat < 2; ++repeat) {  // the second allocation reuses what the first has dirtied
    const Buffer buffer(*machine, 1000);
    EXPECT_EQ(read(buffer), std::vector<unsigned char>(1000, 0xff));
    EXPECT_TRUE(std::isnan(buffer.as<float>()[249]));
    machine->fill(buffer.data(), 0, 1000);
  }
}

TEST_P(EveryMachine, UploadsCopiesFillsAndDownloadsExactlyTheBytesAskedFor) {
  std::vector<unsigned char> bytes(300);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 7);
  const Buffer a(*machine, 300), b(*machine, 300);
  machine->fill(a.data(), 1, 300);
  machine->fill(b.data(), 2, 300);
  machine->upload(a.as<char>() + 1, bytes.data() + 1, 298);
  machine->copy(b.as<char>() + 10, a.as<char>() + 10, 280);
  machine->fill(b.as<char>() + 20, 9, 3);
  machine->synchronise();
  std::vector<unsigned char> expected_a = bytes, expected_b(300, 2);
  expected_a[0] = expected_a[299] = 1;
  for (std::size_t i = 10; i < 290; ++i) expected_b[i] = i >= 20 && i < 23 ? 9 : bytes[i];
  EXPECT_EQ(read(a), expected_a);
  EXPECT_EQ(read(b), expected_b);
}

TEST_P(EveryMachine, SeesADifferenceInAnyByteAndNoneBeyondTheEnd) {
  for (const std::int64_t bytes : {1, 7, 8, 9, 1000, 1003}) {
    for (const std::int64_t offset : {0, 1}) {
      const Buffer a(*machine, bytes + 2), b(*machine, bytes + 2);
      machine->fill(a.data(), 5, bytes + 2);
      machine->fill(b.data(), 5, bytes + 2);
      char *const x = a.as<char>() + offset, *const y = b.as<char>() + offset;
      machine->fill(x + bytes, 6, 1);
      EXPECT_TRUE(machine->equal(x, y, bytes));
      EXPECT_TRUE(machine->equal(x, y, 0));
      for (const std::int64_t at : {std::int64_t(0), bytes / 2, bytes - 1}) {
        machine->fill(y + at, 4, 1);
        EXPECT_FALSE(machine->equal(x, y, bytes)) << at << " of " << bytes;
        machine->fill(y + at, 5, 1);
      }
      EXPECT_TRUE(machine->equal(x, y, bytes));
    }
  }
}

TEST_P(EveryMachine, TimesALaunchOnceAndMoreWorkLonger) {
  const std::int64_t bytes = on_host() ? 1 << 20 : 64 << 20;
  const Buffer a(*machine, bytes), b(*machine, bytes);
  machine->fill(a.data(), 0, bytes);
  machine->fill(b.data(), 0, bytes);
  for (const bool queued : {false, true}) {
    int calls = 0;
    const auto copies = [&](int count) {
      return [&, count](Stream stream) {
        EXPECT_EQ(stream, machine->stream());
        ++calls;
        for (int i = 0; i < count; ++i) machine->copy(b.data(), a.data(), bytes);
      };
    };
    double least[2] = {1e9, 1e9};
    for (int repeat = 0; repeat < 5; ++repeat) {
      for (const int which : {0, 1}) {
        const Sample sample = machine->time(copies(which == 0 ? 1 : 20), queued);
        EXPECT_GT(sample.time_s, 0);
        EXPECT_GT(sample.host_s, 0);
        EXPECT_TRUE(sample.host_s == sample.time_s || !on_host());  // one clock
        EXPECT_EQ(sample.time_s, as_recorded_s(sample.time_s)) << "a record takes it as it is";
        least[which] = std::min(least[which], sample.time_s);
      }
    }
    EXPECT_EQ(calls, 10);
    EXPECT_GT(least[1], 4 * least[0]);
    EXPECT_LT(least[1], 5.0);  // seconds, not milliseconds
  }
}

TEST_P(EveryMachine, CountsHostGapsOnlyWhenNothingIsQueued) {
  const Buffer a(*machine, 1);
  const auto late = [&](Stream) {
    machine->fill(a.data(), 0, 1);
    std::this_thread::sleep_for(milliseconds(20));
    machine->fill(a.data(), 0, 1);
  };
  const Sample plain = machine->time(late, false), queued = machine->time(late, true);
  EXPECT_GE(plain.time_s, 0.02);
  EXPECT_GE(plain.host_s, 0.02);
  if (on_host()) {
    EXPECT_GE(queued.time_s, 0.02);  // a CPU has no queue
  } else {
    EXPECT_LT(queued.time_s, 0.02);
    EXPECT_LT(queued.host_s, 0.02);
  }
}

TEST_P(EveryMachine, SpinsForATimeThatGrowsWithTheSteps) {
  const auto least_s = [&](std::int64_t steps) {
    double least = 1e9;
    for (int repeat = 0; repeat < 5; ++repeat) least = std::min(least, machine->time([&](Stream stream) { machine->spin(steps, stream); }, true).time_s);
    return least;
  };
  const double none = least_s(0), some = least_s(100'000), more = least_s(400'000);
  EXPECT_GT(some - none, 100'000 * 1e-10) << "two dependent operations take more than 0.1 ns on any machine";
  EXPECT_GT(more - none, 2 * (some - none));
}

TEST_P(EveryMachine, ClearsTheLowBitsOfEveryElementAndNoOthers) {
  for (const Storage type : kStorages) {
    const std::int64_t count = 300, size = size_of(type);
    for (const int bits : {1, 5, 16}) {
      const Buffer buffer(*machine, (count + 1) * size);
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>((count + 1) * size), 0xff), expected = bytes;
      machine->upload(buffer.data(), bytes.data(), std::ssize(bytes));
      machine->clear_low_bits(buffer.data(), count, type, bits, machine->stream());
      machine->synchronise();
      machine->download(bytes.data(), buffer.data(), std::ssize(bytes));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint64_t left = ~std::uint64_t{0} << bits;
        std::memcpy(expected.data() + i * size, &left, static_cast<std::size_t>(size));
      }
      EXPECT_EQ(bytes, expected) << to_string(type) << " " << bits;
    }
  }
}

TEST_P(EveryMachine, PassesOnWhatATimedLaunchThrowsAndStaysUsable) {
  for (const bool queued : {false, true}) {
    EXPECT_THROW(machine->time([](Stream) { throw DeviceError("of the launch"); }, queued), DeviceError);
    EXPECT_GE(machine->time([](Stream) {}, queued).time_s, 0);
  }
}

TEST_P(EveryMachine, TimesInAGraphOnlyWhereThereAreGraphs) {
  const Buffer a(*machine, 1 << 20);
  std::set<int> indices;
  const auto time_s = machine->time_graph(
      [&](Stream stream, int i) {
        indices.insert(i);
        EXPECT_NE(stream, nullptr);
        static_cast<void>(stream);
      },
      3);
  EXPECT_EQ(time_s.has_value(), !on_host());
  EXPECT_EQ(indices, on_host() ? std::set<int>{} : (std::set{0, 1, 2}));
}

TEST_P(EveryMachine, MeasuresItsLaunchCopyAndClockOnce) {
  const double launch_s = machine->launch_s();
  EXPECT_GE(launch_s, 0);
  EXPECT_LT(launch_s, 1e-2);
  EXPECT_EQ(machine->launch_s(), launch_s);
  EXPECT_GT(machine->last_level_cache_bytes(), 64 * 1024);
  if (GetParam() != "emulated") {
    const double rate = machine->copy_bytes_per_s();
    EXPECT_GT(rate, 1e8);
    EXPECT_LT(rate, 1e14);
    EXPECT_EQ(machine->copy_bytes_per_s(), rate);
  }
  const auto clock = machine->clock_mhz();
  EXPECT_TRUE(clock || on_host());
  if (clock) {
    EXPECT_GT(*clock, 100);
    EXPECT_LT(*clock, 20000);
  }
}

/// Runs what is timed and answers with the next of a list of times.
class ScriptedClock : public HostMachine {
 public:
  Sample time(const std::function<void(Stream)>& launch, bool) override {
    launch(nullptr);
    return {times_s.at(calls), times_s[calls++]};
  }
  std::int64_t last_level_cache_bytes() const override { return 1000; }
  std::vector<double> times_s;
  std::size_t calls = 0;
  int empty_launches = 0;

 protected:
  void empty_launch() override { ++empty_launches; }
};

TEST(AHostMachine, RatesTheBestOfBothCopiesByBytesReadAndWritten) {
  for (const std::size_t best : {0, 5, 6, 11}) {  // six of the library's copy, six of ours
    ScriptedClock machine;
    machine.times_s.assign(12, 2.0);
    machine.times_s[best] = 0.5;
    EXPECT_EQ(machine.copy_bytes_per_s(), 2 * 4 * 1000 / 0.5);
    EXPECT_EQ(machine.copy_bytes_per_s(), 2 * 4 * 1000 / 0.5);
    EXPECT_EQ(machine.calls, 12u);
  }
}

TEST(AHostMachine, TakesTheMedianOfFiftyEmptyLaunches) {
  ScriptedClock machine;
  for (int i = 0; i < 50; ++i) machine.times_s.push_back(i * 7 % 50);
  EXPECT_EQ(machine.launch_s(), 25);
  EXPECT_EQ(machine.launch_s(), 25);
  EXPECT_EQ(machine.empty_launches, 50);
}

TEST(AnEmulatedLaunch, CostsMoreThanACall) {
  double launch_s[2] = {};
  for (const MachineEntry& entry : machines()) {
    if (entry.device == "cpu") launch_s[0] = entry.open()->launch_s();
    if (entry.device == "emulated") launch_s[1] = entry.open()->launch_s();
  }
  EXPECT_GT(launch_s[1], 5 * launch_s[0]);
}

TEST_P(EveryMachine, DescribesItsGpu) {
  const auto gpu = machine->gpu();
  if (!gpu) GTEST_SKIP() << "no GPU";
  EXPECT_FALSE(gpu->name.empty());
  EXPECT_NE(gpu->driver.find("CUDA "), std::string::npos);
  EXPECT_GE(gpu->sm, 70);
  EXPECT_GE(gpu->multiprocessors, 1);
  EXPECT_GE(gpu->memory_bytes, machine->free_bytes());
  EXPECT_GT(gpu->clock_mhz, 100);
}

// ---------------------------------------------------------------------------------------------------------------------
// What Linux says of the host, from made-up /proc and /sys trees

class TheHost : public ::testing::Test {
 protected:
  void SetUp() override {
    root = std::filesystem::temp_directory_path() /
           ("prnn-host-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + "-" + std::to_string(reinterpret_cast<std::uintptr_t>(this)));
    std::filesystem::create_directories(root);
  }
  void TearDown() override { std::filesystem::remove_all(root); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root / path).parent_path());
    std::ofstream(root / path) << text;
  }
  std::filesystem::path root;
};

TEST_F(TheHost, HasTheFreeMemoryThatMeminfoCallsAvailable) {
  write("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable:   2000 kB\n");
  EXPECT_EQ(free_host_bytes(root), 2000 * 1024);
  EXPECT_GT(free_host_bytes(), 1 << 20);
}

TEST_F(TheHost, HasNoMoreFreeMemoryThanItsControlGroupOrOneAboveLeaves) {
  write("proc/meminfo", "MemAvailable: 1000000 kB\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "500\n");
  EXPECT_EQ(free_host_bytes(root), 1000000 * 1024);
  write("sys/fs/cgroup/outer/memory.max", "90000\n");
  write("sys/fs/cgroup/outer/memory.current", "50000\n");
  EXPECT_EQ(free_host_bytes(root), 40000);
  write("sys/fs/cgroup/outer/memory.stat", "anon 40000\ninactive_file 7000\n");
  EXPECT_EQ(free_host_bytes(root), 47000);
  write("sys/fs/cgroup/outer/inner/memory.max", "600\n");
  EXPECT_EQ(free_host_bytes(root), 100);
  write("sys/fs/cgroup/memory.max", "10\n");  // inside a container its own group is the root
  write("sys/fs/cgroup/memory.current", "30\n");
  EXPECT_EQ(free_host_bytes(root), 0);
}

TEST_F(TheHost, UnderstandsControlGroupsOfVersionOne) {
  write("proc/meminfo", "MemAvailable: 1000000 kB\n");
  write("proc/self/cgroup", "5:cpu:/elsewhere\n4:memory:/job\n0::/\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "8000\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "5000\n");
  EXPECT_EQ(free_host_bytes(root), 3000);
  write("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n");
  EXPECT_EQ(free_host_bytes(root), 3500);
}

TEST_F(TheHost, AddsUpTheDistinctCachesOfTheHighestLevel) {
  const auto cache = [&](int cpu, int index, const char* level, const char* type, const char* size, const char* shared) {
    const std::string at = "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(index) + "/";
    write(at + "level", level);
    write(at + "type", type);
    write(at + "size", size);
    write(at + "shared_cpu_list", shared);
  };
  for (int cpu = 0; cpu < 4; ++cpu) {
    cache(cpu, 0, "1", "Data", "32K", "0");
    cache(cpu, 2, "2", "Unified", "512K", "0");
    cache(cpu, 3, "3", "Unified", cpu < 2 ? "16M" : "8192K", cpu < 2 ? "0-1" : "2-3");
  }
  write("sys/devices/system/cpu/cpufreq/cache/index9/level", "9");  // not a processor
  EXPECT_EQ(last_level_cache_bytes(root), 24 << 20);
  EXPECT_GT(last_level_cache_bytes(root / "nowhere"), 64 * 1024);
}

TEST_F(TheHost, HasTheClockOfItsFastestProcessor) {
  EXPECT_EQ(processor_clock_mhz(root), std::nullopt);
  write("proc/cpuinfo", "cpu MHz\t\t: 2450.5\nmodel name: x\ncpu MHz\t\t: 2500.25\ncpu MHz : 1000\n");
  EXPECT_EQ(processor_clock_mhz(root), 2500.25);
  write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n");
  write("sys/devices/system/cpu/cpu11/cpufreq/scaling_cur_freq", "3100000\n");
  EXPECT_EQ(processor_clock_mhz(root), 3100.0);
}

}  // namespace
}  // namespace prnn
