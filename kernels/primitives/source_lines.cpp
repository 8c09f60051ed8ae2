// source_lines.cpp: asks addr2line (binutils), as no library of the distribution knows inlined functions.
#include "kernels/primitives/source_lines.hpp"

#include <link.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace prnn {
namespace {

struct Frame {
  std::string function, file_line;
};

/// Innermost first.
std::vector<Frame> ask(std::uintptr_t address) {
  std::uintptr_t shift = 0;  // where the program was loaded; it is the first of the objects
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uintptr_t*>(out) = info->dlpi_addr;
        return 1;
      },
      &shift);
  std::string quoted = "'";
  std::error_code unreadable;
  for (const char c : std::filesystem::read_symlink("/proc/self/exe", unreadable).string()) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  std::array<char, 32> hex;
  std::snprintf(hex.data(), hex.size(), "%#lx", static_cast<unsigned long>(address - shift));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> answer(popen(("exec addr2line -Cfi -e " + quoted + "' " + hex.data() + " 2>/dev/null").c_str(), "r"), &pclose);
  std::vector<std::string> lines(1);
  for (int c; answer && (c = std::fgetc(answer.get())) != EOF;) {
    if (c == '\n') lines.emplace_back();
    else lines.back() += char(c);
  }
  std::vector<Frame> frames;
  for (std::size_t i = 0; i + 1 < lines.size(); i += 2) frames.push_back({lines[i], lines[i + 1].substr(0, lines[i + 1].find(" (discriminator"))});
  return frames;
}

const std::vector<Frame>& frames_at(std::uintptr_t address) {
  static std::mutex one;
  static std::map<std::uintptr_t, std::vector<Frame>> known;
  const std::lock_guard lock(one);
  auto found = known.find(address);
  if (found == known.end()) found = known.emplace(address, ask(address)).first;
  return found->second;
}

}  // namespace

std::string source_line(const void* return_address) {
  for (const Frame& frame : frames_at(reinterpret_cast<std::uintptr_t>(return_address) - 1)) {
    const std::size_t root = frame.file_line.rfind("/kernels/");
    if (root == std::string::npos || frame.file_line.find("/device_emulated.hpp:") != std::string::npos) continue;
    return frame.file_line.substr(root + 1);
  }
  return "";
}

std::string function_name(const void* function) {
  const auto& frames = frames_at(reinterpret_cast<std::uintptr_t>(function));
  if (frames.empty() || frames[0].function.starts_with('?')) return "";
  std::string name = frames[0].function;
  for (std::size_t at; (at = name.find("(anonymous namespace)::")) != std::string::npos;) name.erase(at, 23);
  name.resize(std::min(name.find_first_of("(<{"), name.size()));
  const std::size_t start = name.find_last_of(": ");
  return start == std::string::npos ? name : name.substr(start + 1);
}

}  // namespace prnn
