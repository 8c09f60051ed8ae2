// kernel_cache.cpp: see kernel_cache.hpp.
#include "kernels/runtime/kernel_cache.hpp"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "kernels/hash.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

fs::path& directory() {
  static fs::path kept_in;
  return kept_in;
}

constexpr const char* kFormat = "prnn-kernel-1";

std::string hex(std::uint64_t x) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(x));
  return text;
}
/// 128 bits in two halves that know nothing of each other: from the front with one start, and from the back with another.
std::string name_of(const std::string& key) {
  const std::string reversed(key.rbegin(), key.rend());
  return hex(hash_bytes(key.data(), key.size())) + hex(hash_bytes(reversed.data(), reversed.size(), ~std::uint64_t(0)));
}
std::string checksum_of(const std::string& text) { return hex(hash_bytes(text.data(), text.size())); }

/// A line of numbers and names, then the cubin; before both, their checksum.
std::string pack(const std::string& name, const CompiledKernel& kernel) {
  std::ostringstream body;
  body << kFormat << " " << name << " " << kernel.symbol << " " << kernel.registers << " " << kernel.stack_bytes << " " << kernel.spill_bytes << " " << kernel.cubin.size() << "\n"
       << kernel.cubin;
  const std::string text = std::move(body).str();
  return checksum_of(text) + "\n" + text;
}

std::optional<CompiledKernel> unpack(const std::string& name, const std::string& bytes) {
  const std::size_t begin = bytes.find('\n') + 1, end = bytes.find('\n', begin);
  if (begin == 0 || end == bytes.npos || bytes.substr(0, begin - 1) != checksum_of(bytes.substr(begin))) return std::nullopt;
  std::istringstream line(bytes.substr(begin, end - begin));
  CompiledKernel kernel;
  std::string format, stored_name;
  std::size_t size = 0;
  line >> format >> stored_name >> kernel.symbol >> kernel.registers >> kernel.stack_bytes >> kernel.spill_bytes >> size;
  kernel.cubin = bytes.substr(end + 1);
  if (!line || format != kFormat || stored_name != name || kernel.cubin.size() != size) return std::nullopt;
  kernel.cached = true;
  return kernel;
}

fs::path file_of(const std::string& name) { return directory() / (name + ".cubin"); }

}  // namespace

void keep_compiled_kernels(const std::string& kept_in) { directory() = kept_in; }

std::optional<CompiledKernel> find_compiled(const std::string& key) {
  if (directory().empty()) return std::nullopt;
  const std::string name = name_of(key);
  std::ifstream in(file_of(name), std::ios::binary);
  if (!in) return std::nullopt;
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return unpack(name, std::move(bytes).str());
}

void store_compiled(const std::string& key, const CompiledKernel& kernel) {
  if (directory().empty()) return;
  static std::atomic<unsigned> count{0};
  const std::string name = name_of(key);
  const fs::path temporary = directory() / (name + "." + std::to_string(getpid()) + "-" + std::to_string(count++) + ".tmp");
  std::error_code error;
  fs::create_directories(directory(), error);
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  const std::string bytes = pack(name, kernel);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  out.close();
  if (out) fs::rename(temporary, file_of(name), error);
  if (!out || error) fs::remove(temporary, error);
}

}  // namespace prnn
