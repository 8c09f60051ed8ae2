// baseline.cpp: see baseline.hpp.
#include "harness/baseline.hpp"

#include <fmt/format.h>
#include <unistd.h>
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "harness/commands.hpp"
#include "harness/nearest.hpp"
#include "harness/progress.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

std::string with_extension(const std::string& record, const std::string& extension) {
  const std::string stem = record.ends_with(".jsonl") ? record.substr(0, record.size() - 6) : record;
  return stem + extension;
}

/// *.jsonl of a folder, but for fresh runs and partners of the others.
std::vector<std::string> records_in(const fs::path& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name.ends_with(".jsonl") && name.find(".again") == std::string::npos && name.find(".against.") == std::string::npos)
      files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<std::string> saved_names() {
  std::vector<std::string> names;
  if (!fs::is_directory(baselines_directory())) return names;
  for (const auto& entry : fs::directory_iterator(baselines_directory())) {
    if (entry.is_directory() && !entry.path().filename().string().starts_with('.')) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

int list_baselines(bool json) {
  Json list = Json::array();
  for (const std::string& name : saved_names()) {
    const Runs runs = load_baseline(name);
    const Provenance& head = runs.files.front().head;
    const std::string& device = runs.files.front().rows.front().device;
    if (json) {
      list.push_back({{"name", name},
                      {"suite", head.suite_path},
                      {"device", device},
                      {"commit", head.commit},
                      {"fingerprint", head.fingerprint},
                      {"runs", runs.files.size()},
                      {"cases", runs.files.front().rows.size()},
                      {"time_utc", head.time_utc}});
    } else {
      std::cout << fmt::format("{}  {} on {}, commit {}{}, {} runs of {} cases, {}\n", name, head.suite_path, device, head.commit.substr(0, 7), head.dirty ? " (dirty)" : "",
                               runs.files.size(), runs.files.front().rows.size(), head.time_utc);
    }
  }
  if (json) std::cout << list.dump() << std::endl;
  return 0;
}

int show_baseline(const std::string& name, bool json) {
  const Runs runs = load_baseline(name);
  Json list = Json::array();
  const auto percent = [](const std::optional<double>& value) { return value ? fmt::format("{:.2f} %", 100 * *value) : "-"; };
  if (!json) std::cout << fmt::format("{:>10}  {:>5}  {:>8}  {:>10}  case\n", "time", "runs", "noise", "detectable");
  for (const NoiseFloor& floor : noise_floors(runs)) {
    const std::optional<double> noise = floor.noise ? std::optional(floor.noise->between) : std::nullopt;
    if (json) {
      const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
      list.push_back({{"case_id", floor.case_id}, {"time_s", floor.time_s}, {"runs", floor.runs}, {"noise", number(noise)}, {"detectable", number(floor.detectable)}});
    } else {
      std::cout << fmt::format("{:>10}  {:>5}  {:>8}  {:>10}  {}\n", readable_time(floor.time_s), floor.runs, percent(noise), percent(floor.detectable), floor.case_id);
    }
  }
  if (json) std::cout << Json{{"name", name}, {"runs", runs.files.size()}, {"cases", list}}.dump() << std::endl;
  else std::cout << "noise: standard deviation of a run's median from run to run, from 3 runs on; detectable: the smallest slowdown that one run shows against these\n";
  return 0;
}

}  // namespace

fs::path baselines_directory() { return build_directory() / "baselines"; }

std::vector<std::string> baseline_files(const std::string& name_or_path) {
  std::error_code error;
  if (fs::is_regular_file(name_or_path, error)) return {name_or_path};
  if (fs::is_directory(name_or_path, error)) return records_in(name_or_path);
  const fs::path folder = baselines_directory() / name_or_path;
  return !name_or_path.empty() && fs::is_directory(folder, error) ? records_in(folder) : std::vector<std::string>{};
}

Runs load_baseline(const std::string& name_or_path) {
  Runs runs{.name = name_or_path, .files = {}};
  for (const std::string& file : baseline_files(name_or_path)) runs.files.push_back(read_record_file(file));
  if (runs.files.empty()) {
    const std::vector<std::string> names = saved_names();
    throw BadInput(fmt::format("baseline '{}': no such record, folder of records or saved baseline{}", name_or_path,
                               names.empty() ? "; none is saved: prnn baseline save NAME FILE" : did_you_mean(name_or_path, names)));
  }
  require_alike(runs);
  return runs;
}

std::string again_path(const std::string& record, int number) { return with_extension(record, fmt::format(".again{}.jsonl", number)); }
std::string against_path(const std::string& record) { return with_extension(record, ".against.jsonl"); }

Runs load_candidate(const std::string& record) {
  Runs runs{.name = record, .files = {}};
  runs.files.push_back(read_record_file(record));
  for (int number = 1; fs::exists(again_path(record, number)); ++number) runs.files.push_back(read_record_file(again_path(record, number)));
  require_alike(runs);
  return runs;
}

std::vector<RecordFile> partners_of(std::span<const RecordFile> files) {
  std::vector<RecordFile> partners;
  for (const RecordFile& file : files) {
    const std::string beside = against_path(file.path);
    if (file.head.interleaved_with && fs::exists(beside)) partners.push_back(read_record_file(beside));
  }
  return partners;
}

void save_baseline(const std::string& name, const std::vector<std::string>& files) {
  if (name.empty() || name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") != std::string::npos || name.front() == '.')
    throw BadInput(fmt::format("baseline save {}: expected a name of letters, digits, '_', '-' and '.'", name));
  if (files.empty()) throw BadInput(fmt::format("baseline save {}: expected the record to save, or several A/A runs", name));
  Runs runs{.name = name, .files = {}};
  for (const std::string& file : files) {
    runs.files.push_back(read_record_file(file));
    const auto& [path, hash, head, rows, row_of] = runs.files.back();
    if (!head.inject.empty()) throw BadInput(fmt::format("{}: made with --inject {}; expected a record of the program as it is", path, head.inject));
    for (std::size_t i = 0; i + 1 < runs.files.size(); ++i) {
      if (runs.files[i].sha256 == hash) throw BadInput(fmt::format("{}: the same record as {}; expected runs of their own", path, runs.files[i].path));
    }
  }
  require_alike(runs);

  // The new folder takes the old one's name once it is whole: a kill leaves the old one, the new one, or for a moment none.
  const fs::path folder = baselines_directory() / name, made = baselines_directory() / fmt::format(".{}.{}", name, getpid());
  try {
    fs::create_directories(made);
    for (std::size_t i = 0; i < files.size(); ++i) fs::copy_file(files[i], made / fmt::format("{}.jsonl", i + 1));
    fs::remove_all(folder);
    fs::rename(made, folder);
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove_all(made, ignored);
    throw DiskFull(fmt::format("{}: {}", folder.string(), error.code().message()));
  }
}

int baseline_command(const std::string& action, const std::string& name, const std::vector<std::string>& files, bool json) {
  const std::vector<std::string> actions = {"save", "list", "show"};
  if (std::find(actions.begin(), actions.end(), action) == actions.end())
    throw BadInput(fmt::format("prnn baseline: unknown action '{}'{}", action, did_you_mean(action, actions)));
  if (action == "list") {
    if (!name.empty()) throw BadInput(fmt::format("prnn baseline list {}: expected nothing after list", name));
    return list_baselines(json);
  }
  if (action == "show") {
    if (name.empty() || !files.empty()) throw BadInput("prnn baseline show: expected one NAME, record or folder");
    return show_baseline(name, json);
  }
  save_baseline(name, files);
  const std::string folder = (baselines_directory() / name).string();
  if (json) std::cout << Json{{"name", name}, {"runs", files.size()}, {"folder", folder}}.dump() << std::endl;
  else
    std::cout << fmt::format("{}: {} run{} in {}{}\n", name, files.size(), files.size() == 1 ? "" : "s", folder,
                             files.size() < kFewestRuns ? "; 3 A/A runs or more tell the noise" : "");
  return 0;
}

}  // namespace prnn
