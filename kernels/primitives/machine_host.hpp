// machine_host.hpp: the machine whose memory is the host's: the device "cpu", and the base of the emulated GPU.
#pragma once

#include <filesystem>
#include <functional>

#include "kernels/api.hpp"

namespace prnn {

/// Bytes a process may still take: MemAvailable, or less where a control group (version 1 or 2, or one above it) has less left; its page
/// cache that can be dropped counts as free. root: where /proc and /sys are looked up.
std::int64_t free_host_bytes(const std::filesystem::path& root = "/");
/// Sum over the distinct caches of the highest level that all processors together have; sysconf's answer, then 32 MiB, where sysfs has none.
std::int64_t last_level_cache_bytes(const std::filesystem::path& root = "/");
/// Of the fastest processor now: cpufreq, else /proc/cpuinfo.
std::optional<double> processor_clock_mhz(const std::filesystem::path& root = "/");

class HostMachine : public Machine {
 public:
  std::string_view device() const override { return "cpu"; }
  std::int64_t free_bytes() const override;
  std::int64_t last_level_cache_bytes() const override { return prnn::last_level_cache_bytes(); }

  /// 64-byte aligned; every byte is 0xff (NaN), which also makes each page resident, so that free_bytes() is true and no timed launch faults.
  void* allocate(std::int64_t bytes) override;
  void release(void*) noexcept override;
  void upload(void* to, const void* from_host, std::int64_t bytes) override;
  void download(void* to_host, const void* from, std::int64_t bytes) override;
  void copy(void* to, const void* from, std::int64_t bytes) override;
  void fill(void* to, unsigned char byte, std::int64_t bytes) override;
  bool equal(const void* a, const void* b, std::int64_t bytes) override;

  Stream stream() override { return nullptr; }
  void synchronise() override {}

  Sample time(const std::function<void(Stream)>& launch, bool queued) override;
  std::optional<double> time_graph(const std::function<void(Stream, int)>&, int) override { return std::nullopt; }
  void spin(std::int64_t steps, Stream) override;
  void clear_low_bits(void* data, std::int64_t elements, Storage type, int bits, Stream) override;
  std::optional<double> clock_mhz() override { return processor_clock_mhz(); }
  double copy_bytes_per_s() override;
  double launch_s() override;

 protected:
  virtual void empty_launch() {}
  /// Throws OutOfMemory.
  void refuse_more_than_free(std::int64_t bytes) const;

 private:
  double copy_bytes_per_s_ = 0, launch_s_ = -1;
  mutable std::int64_t free_bytes_ = 0;
  mutable double read_at_s_ = 0;  // 0: never
};

}  // namespace prnn
