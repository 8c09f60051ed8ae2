// info.cpp: `prnn info`, and the choice of a machine.
#include <fmt/format.h>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/build_info.hpp"
#include "harness/commands.hpp"
#include "harness/nearest.hpp"
#include "harness/record.hpp"

namespace prnn {

std::unique_ptr<Machine> open_machine(const std::string& device) {
  const auto find = [](const std::string& name) { return std::find_if(machines().begin(), machines().end(), [&](const MachineEntry& entry) { return entry.device == name; }); };
  const std::vector<std::string> known = {"auto", "cuda", "cpu", "emulated"};
  if (std::find(known.begin(), known.end(), device) == known.end()) throw BadInput(fmt::format("--device {}: unknown device{}", device, did_you_mean(device, known)));
  if (device == "auto") {
    const auto cuda = find("cuda");
    return open_machine(cuda != machines().end() && cuda->why_not().empty() ? "cuda" : "cpu");
  }
  const auto entry = find(device);
  if (entry == machines().end()) throw BadInput(fmt::format("--device {}: not compiled into this program; expected auto, cpu or emulated", device));
  if (const std::string why = entry->why_not(); !why.empty()) throw BadInput(fmt::format("--device {}: {}; expected auto, cpu or emulated", device, why));
  return entry->open();
}

std::filesystem::path home_directory() {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path source = build_info().source, folder = fs::read_symlink("/proc/self/exe").parent_path();
  if (folder.parent_path().filename() == "build") return folder.parent_path().parent_path();
  return fs::exists(source / "CMakeLists.txt", error) ? source : folder;
}

std::filesystem::path build_directory() { return home_directory() / "build"; }

std::filesystem::path cache_directory() {
  const char* chosen = std::getenv("PRNN_CACHE");
  return chosen && *chosen ? std::filesystem::path(chosen) : build_directory() / "reference";
}

int info_command(bool json) {
  const std::unique_ptr<Machine> machine = open_machine("auto");
  const Provenance here = provenance_here(Suite{}, "prnn info", machine->device(), machine->gpu());
  const Json provenance = to_json(here);
  Json info;
  for (const char* key : {"commit", "dirty", "build", "machine", "gpu", "fingerprint"}) info[key] = provenance[key];
  info["device"] = machine->device();
  info["memory_free_bytes"] = machine->free_bytes();
  info["last_level_cache_bytes"] = machine->last_level_cache_bytes();
  const std::optional<double> clock = machine->clock_mhz();
  info["clock_mhz"] = clock ? Json(*clock) : Json(nullptr);
  info["cache"] = std::filesystem::absolute(cache_directory()).string();
  const std::string no_compiler = kernel_compiler_why_not();
  info["kernel_compiler"] = no_compiler.empty() ? "NVRTC" : no_compiler;
  info["text"] = default_text_file().empty() ? Json(nullptr) : Json(default_text_file());
  if (json) {
    std::cout << info.dump() << "\n";
    return 0;
  }
  for (const auto& [key, value] : info.items()) {
    if (value.is_object()) {
      for (const auto& [inner, text] : value.items()) std::cout << fmt::format("{:<24}{}\n", key + " " + inner, text.is_string() ? text.get<std::string>() : text.dump());
    } else {
      std::cout << fmt::format("{:<24}{}\n", key, value.is_string() ? value.get<std::string>() : value.is_null() ? "none" : value.dump());
    }
  }
  return 0;
}

}  // namespace prnn
