// list.cpp: `prnn list`: what exists, read from the registries and the suites folder, never from a text that could drift.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/commands.hpp"
#include "harness/kernel_list.hpp"
#include "harness/nearest.hpp"
#include "harness/record.hpp"

namespace prnn {
namespace {

Json cells() {
  Json list = Json::array();
  for (const Op& op : ops()) {
    for (const std::string& cell : op.cells()) {
      Problem problem;
      problem.op = op.name;
      problem.cell = cell;
      problem.hidden = 1;
      problem.seq_len = 1;
      Json row{{"name", cell}, {"op", op.name}};
      for (const TensorSpec& tensor : op.tensors(problem)) row["numbers"][tensor.name] = tensor.elements();  // of one step of one channel
      list.push_back(row);
    }
  }
  return list;
}

Json device_list() {
  Json list = Json::array();
  for (const MachineEntry& entry : machines()) {
    const std::string why = entry.why_not();
    Json row{{"name", entry.device}, {"runs", why.empty()}, {"why_not", why.empty() ? Json(nullptr) : Json(why)}};
    if (!entry.what_is_not.empty()) row["not_emulated"] = entry.what_is_not;
    list.push_back(row);
  }
  return list;
}

/// What a solver's policies may say: {"cpu forward": {key: values}}; devices with the same space share a line, and values that depend on cell or storage are joined by |.
Json policy_spaces(const std::string& name) {
  std::map<std::pair<std::string, std::string>, std::map<std::string, std::set<std::string>>> by_place;
  for (const Solver& solver : solvers()) {
    if (solver.name != name) continue;
    for (const PolicyParameter& parameter : solver.space)
      by_place[{solver.pass, solver.device}][parameter.key].insert(parameter.values() + (parameter.compiled ? ", compiled when first used" : ""));
  }
  std::map<std::pair<std::string, Json>, std::vector<std::string>> shared;
  for (const auto& [place, space] : by_place) {
    Json values;
    for (const auto& [key, texts] : space) values[key] = fmt::format("{}", fmt::join(texts, " | "));
    shared[{place.first, values}].push_back(place.second);
  }
  Json spaces = Json::object();
  for (const auto& [place, devices] : shared) spaces[fmt::format("{} {}", fmt::join(devices, ", "), place.first)] = place.second;
  return spaces;
}

Json solver_list() {
  const Json devices = device_list();
  Json list = Json::array();
  for (const std::string& name : solver_names()) {
    std::set<std::string> on, storage, passes;
    Json row{{"name", name}};
    for (const Solver& solver : solvers()) {
      if (solver.name != name || std::none_of(devices.begin(), devices.end(), [&](const Json& device) { return device["name"] == solver.device; })) continue;
      on.insert(solver.device);
      storage.emplace(to_string(solver.storage));
      passes.insert(solver.pass);
      row["iterates"] = solver.iterates;
      row["deterministic"] = solver.deterministic;
    }
    row["devices"] = on;
    row["storage"] = storage;
    row["passes"] = passes;
    row["policy"] = policy_spaces(name);
    Json& not_here = row["not_here"] = Json::object();
    for (const Json& device : devices) {
      const std::string machine = device["name"];
      if (!on.contains(machine)) not_here[machine] = "no such solver for this device";
      else if (!device["runs"]) not_here[machine] = device["why_not"];
    }
    list.push_back(row);
  }
  return list;
}

Json suite_list() {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  if (const fs::path folder = home_directory() / "suites"; fs::is_directory(folder)) {
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (entry.path().extension() == ".toml") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  Json list = Json::array();
  for (const fs::path& file : files) {
    Json row{{"name", file.stem().string()}, {"path", file.string()}};
    try {
      row["title"] = load_suite(file.string()).title;
    } catch (const BadInput& error) {
      row["error"] = error.what();
    }
    list.push_back(row);
  }
  return list;
}

/// The paper's claims as the report judges them; none where the program was copied without its sources.
Json claim_list() {
  std::ifstream stream(home_directory() / "plots" / "claims" / "claims.json");
  Json list = Json::array();
  if (!stream) return list;
  for (const Json& claim : Json::parse(stream)) {
    Json row{{"id", claim["id"]}, {"claim", claim["title"]}, {"where", claim["where"]}};
    for (const Json& suite : claim["suites"]) row["suites"].push_back(fmt::format("suites/paper/{}.toml", suite.get<std::string>()));
    if (claim.contains("not_testable")) row["not_testable_here"] = claim["not_testable"];
    list.push_back(row);
  }
  return list;
}

struct Section {
  std::string name;
  Json (*list)();
  bool unasked = true;  // part of a list of everything
};
const Section kSections[] = {{"cells", cells}, {"solvers", solver_list}, {"suites", suite_list}, {"devices", device_list}, {"claims", claim_list}, {"kernels", kernel_list, false}};

std::string text_of(const Json& value) {
  if (value.is_string()) return value;
  if (value.is_null()) return "-";
  if (value.is_boolean()) return value ? "yes" : "no";
  if (!value.is_structured()) return value.dump();
  std::vector<std::string> parts;
  for (const auto& [key, element] : value.items()) parts.push_back(value.is_array() ? text_of(element) : key + ": " + text_of(element));
  return fmt::format("{}", fmt::join(parts, value.is_array() ? " " : "; "));
}

void print(const Section& section) {
  std::cout << section.name << "\n";
  for (const Json& row : section.list()) {
    bool first = true;
    for (const auto& [key, value] : row.items()) {
      if (first) std::cout << fmt::format("  {:<16}", text_of(value));
      else if (!value.is_null() && !value.empty()) std::cout << fmt::format(" {}: {}.", key, text_of(value));
      first = false;
    }
    std::cout << "\n";
  }
}

}  // namespace

int list_command(const std::string& what, bool json) {
  std::vector<std::string> known;
  for (const Section& section : kSections) known.push_back(section.name);
  if (!what.empty() && std::find(known.begin(), known.end(), what) == known.end()) throw BadInput(fmt::format("prnn list {}: unknown list{}", what, did_you_mean(what, known)));
  Json all;
  for (const Section& section : kSections) {
    if (what.empty() ? !section.unasked : section.name != what) continue;
    if (json) all[section.name] = section.list();
    else print(section);
  }
  if (json) std::cout << (what.empty() ? all : all[what]).dump() << "\n";
  return 0;
}

}  // namespace prnn
