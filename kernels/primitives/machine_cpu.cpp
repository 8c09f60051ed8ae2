// machine_cpu.cpp: the device "cpu": host memory, the steady clock, all cores.
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <thread>

#include "kernels/primitives/machine_host.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

/// The first line of a file, empty where there is none.
std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<std::int64_t> first_integer(const fs::path& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // also cgroup's "max"
}

/// The number after `key` in a file of lines "key value".
std::optional<std::int64_t> keyed_integer(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    std::int64_t value = 0;
    if (words >> first >> value && first == key) return value;
  }
  return std::nullopt;
}

/// What a control group and all above it leave, the least of them; names as its version has them.
std::int64_t cgroup_free_bytes(const fs::path& mount, const fs::path& group, const char* limit_name, const char* usage_name, const char* reclaimable_key) {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (fs::path at = group.relative_path();; at = at.parent_path()) {
    const fs::path directory = mount / at;
    const auto limit = first_integer(directory / limit_name), usage = first_integer(directory / usage_name);
    if (limit && usage) least = std::min(least, *limit - *usage + keyed_integer(directory / "memory.stat", reclaimable_key).value_or(0));
    if (at.empty()) return std::max<std::int64_t>(least, 0);
  }
}

/// Bytes of a sysfs size such as "32768K".
std::int64_t parse_size(const std::string& text) {
  std::size_t end = 0;
  const std::int64_t value = text.empty() || !std::isdigit(static_cast<unsigned char>(text[0])) ? 0 : std::stoll(text, &end);
  const char unit = end < text.size() ? text[end] : ' ';
  return value * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
}

/// Directories /sys/devices/system/cpu/cpu<number>.
std::vector<fs::path> processor_directories(const fs::path& root) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(root / "sys/devices/system/cpu", ignored)) {
    const std::string name = entry.path().filename();
    if (name.size() > 3 && name.starts_with("cpu") && std::all_of(name.begin() + 3, name.end(), [](unsigned char c) { return std::isdigit(c); })) found.push_back(entry.path());
  }
  return found;
}

double now_s() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// body(first, count) on contiguous parts of `bytes`, one a core.
template <class Body>
void on_all_cores(std::int64_t bytes, const Body& body) {
  const std::int64_t parts = std::max(1u, std::thread::hardware_concurrency());
  const std::int64_t part = (bytes / parts + 63) / 64 * 64;
  std::vector<std::jthread> threads;
  for (std::int64_t first = 0; first < bytes; first += part) threads.emplace_back([=] { body(first, std::min(part, bytes - first)); });
}

void copy_loop(char* to, const char* from, std::int64_t bytes) {
  using Word = std::uint64_t __attribute__((may_alias));
  auto* out = reinterpret_cast<Word*>(to);
  const auto* in = reinterpret_cast<const Word*>(from);
  for (std::int64_t i = 0; i < bytes / 8; ++i) {
    out[i] = in[i];
    asm volatile("" : : : "memory");  // else the compiler makes this a memcpy too
  }
}

}  // namespace

std::int64_t free_host_bytes(const fs::path& root) {
  std::int64_t free = keyed_integer(root / "proc/meminfo", "MemAvailable:").value_or(0) * 1024;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "number:controllers:path"
    const auto colon = line.find(':'), second = line.find(':', colon + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(colon + 1, second - colon - 1), path = line.substr(second + 1);
    if (controllers.empty()) free = std::min(free, cgroup_free_bytes(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file"));
    if (controllers == "memory")
      free = std::min(free, cgroup_free_bytes(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"));
  }
  return free;
}

std::int64_t last_level_cache_bytes(const fs::path& root) {
  std::int64_t highest = 0, bytes = 0;
  std::set<std::string> counted;  // a cache is known by the processors that share it
  for (const fs::path& processor : processor_directories(root)) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(processor / "cache", ignored)) {
      const auto level = first_integer(entry.path() / "level");
      if (!level || *level < highest || first_line(entry.path() / "type") == "Instruction") continue;
      if (*level > highest) {
        highest = *level;
        bytes = 0;
        counted.clear();
      }
      if (counted.insert(first_line(entry.path() / "shared_cpu_list")).second) bytes += parse_size(first_line(entry.path() / "size"));
    }
  }
  if (bytes <= 0) bytes = std::max(sysconf(_SC_LEVEL3_CACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE));
  return bytes > 0 ? bytes : 32 * 1024 * 1024;
}

std::optional<double> processor_clock_mhz(const fs::path& root) {
  double fastest = 0;
  for (const fs::path& processor : processor_directories(root)) fastest = std::max(fastest, double(first_integer(processor / "cpufreq/scaling_cur_freq").value_or(0)) * 1e-3);
  if (fastest <= 0) {
    std::ifstream file(root / "proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
      const auto colon = line.find(':');
      if (line.starts_with("cpu MHz") && colon != std::string::npos) fastest = std::max(fastest, std::strtod(line.c_str() + colon + 1, nullptr));
    }
  }
  return fastest > 0 ? std::optional(fastest) : std::nullopt;
}

std::int64_t HostMachine::free_bytes() const {
  constexpr double kFresh_s = 0.01;  // it is read from files, which takes longer than a small launch
  if (const double now = now_s(); read_at_s_ == 0 || now - read_at_s_ > kFresh_s) {
    free_bytes_ = free_host_bytes();
    read_at_s_ = now;
  }
  return free_bytes_;
}

void HostMachine::refuse_more_than_free(std::int64_t bytes) const {
  const std::int64_t free = free_bytes();
  if (bytes < 0 || bytes > free) throw OutOfMemory("needs " + std::to_string(bytes) + " bytes of host memory, " + std::to_string(free) + " are free");
}

void* HostMachine::allocate(std::int64_t bytes) {
  refuse_more_than_free(bytes);
  void* data = std::aligned_alloc(64, std::size_t((std::max<std::int64_t>(bytes, 1) + 63) / 64 * 64));
  if (!data) throw OutOfMemory("the system refuses " + std::to_string(bytes) + " bytes of host memory");
  fill(data, 0xff, bytes);
  return data;
}

void HostMachine::release(void* data) noexcept { std::free(data); }
void HostMachine::upload(void* to, const void* from_host, std::int64_t bytes) { std::memcpy(to, from_host, std::size_t(bytes)); }
void HostMachine::download(void* to_host, const void* from, std::int64_t bytes) { std::memcpy(to_host, from, std::size_t(bytes)); }
void HostMachine::copy(void* to, const void* from, std::int64_t bytes) { std::memcpy(to, from, std::size_t(bytes)); }
void HostMachine::fill(void* to, unsigned char byte, std::int64_t bytes) { std::memset(to, byte, std::size_t(bytes)); }
bool HostMachine::equal(const void* a, const void* b, std::int64_t bytes) { return std::memcmp(a, b, std::size_t(bytes)) == 0; }

Sample HostMachine::time(const std::function<void(Stream)>& launch, bool) {
  const double start_s = now_s();
  launch(nullptr);
  const double taken_s = as_recorded_s(now_s() - start_s);
  return {taken_s, taken_s};
}

void HostMachine::spin(std::int64_t steps, Stream) {
  double x = 1;
  for (std::int64_t i = 0; i < steps; ++i) {
    x = x * 0.5 + 0.5;
    asm volatile("" : "+x"(x));  // else the compiler sees that it stays 1
  }
}

void HostMachine::clear_low_bits(void* data, std::int64_t elements, Storage type, int bits, Stream) {
  auto* words = static_cast<unsigned char*>(data);
  const std::int64_t size = size_of(type);
  for (std::int64_t i = 0; i < elements; ++i) {
    std::uint64_t element = 0;  // of a little-endian machine, as all are that it is built for
    std::memcpy(&element, words + i * size, static_cast<std::size_t>(size));
    element = element >> bits << bits;
    std::memcpy(words + i * size, &element, static_cast<std::size_t>(size));
  }
}

double HostMachine::copy_bytes_per_s() {
  if (copy_bytes_per_s_ > 0) return copy_bytes_per_s_;
  const std::int64_t bytes = 4 * last_level_cache_bytes();
  const Buffer from(*this, bytes), to(*this, bytes);
  const auto best_s = [&](auto copy_part) {
    double best = std::numeric_limits<double>::infinity();
    fill(to.data(), 0, bytes);
    for (int repeat = 0; repeat < 6; ++repeat) {
      const auto copy_all = [&](Stream) { on_all_cores(bytes, [&](std::int64_t first, std::int64_t count) { copy_part(to.as<char>() + first, from.as<char>() + first, count); }); };
      best = std::min(best, time(copy_all, false).time_s);
    }
    if (!equal(from.data(), to.data(), bytes)) throw DeviceError("the copy whose rate is measured loses bytes");
    return best;
  };
  const double library_s = best_s([](char* out, const char* in, std::int64_t count) { std::memcpy(out, in, std::size_t(count)); });
  copy_bytes_per_s_ = 2.0 * double(bytes) / std::min(library_s, best_s(copy_loop));
  return copy_bytes_per_s_;
}

double HostMachine::launch_s() {
  if (launch_s_ >= 0) return launch_s_;
  std::vector<double> samples_s(50);
  for (double& sample : samples_s) sample = time([this](Stream) { empty_launch(); }, false).time_s;
  std::nth_element(samples_s.begin(), samples_s.begin() + 25, samples_s.end());
  launch_s_ = samples_s[25];
  return launch_s_;
}

namespace {
[[maybe_unused]] const bool registered = [] {
  machines().push_back({"cpu", []() -> std::unique_ptr<Machine> { return std::make_unique<HostMachine>(); }, [] { return std::string(); }});
  return true;
}();
}  // namespace

}  // namespace prnn
