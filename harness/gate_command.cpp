// gate_command.cpp: `prnn gate` and `prnn compare`: reads records, runs again what is inconclusive, says the verdict.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <span>

#include "harness/baseline.hpp"
#include "harness/build_info.hpp"
#include "harness/commands.hpp"
#include "harness/gate.hpp"
#include "harness/gate_output.hpp"
#include "harness/progress.hpp"
#include "harness/sha256.hpp"
#include "harness/shell_words.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

// --- running cases again -----------------------------------------------------------------------------------------------

/// Some flags of the command that made a record, each with its value.
std::vector<std::string> flags_of(const std::string& command, const std::vector<std::string>& wanted) {
  const std::vector<std::string> words = shell_words(command);
  std::vector<std::string> flags;
  for (std::size_t i = 0; i < words.size(); ++i) {
    for (const std::string& flag : wanted) {
      if (words[i] == flag && i + 1 < words.size()) flags.insert(flags.end(), {flag, words[i + 1]});
      else if (words[i].starts_with(flag + "=")) flags.insert(flags.end(), {flag, words[i].substr(flag.size() + 1)});
    }
  }
  return flags;
}
/// Those that decide what its cases are.
std::vector<std::string> flags_of_cases(const std::string& command) { return flags_of(command, {"--set", "--inject"}); }

/// Arguments of prnn that run these cases of a record again.
std::vector<std::string> arguments_for(const RecordFile& record, const std::string& suite, const std::vector<std::string>& case_ids) {
  std::vector<std::string> words = {"run", suite, "--device", record.rows.front().device};
  const std::vector<std::string> flags = flags_of_cases(record.head.command);
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), {"--only", exactly(case_ids)});
  return words;
}

std::string pasteable(const std::vector<std::string>& words) {
  std::string line = "./prnn";
  for (const std::string& word : words) line += " " + quoted(word);
  return line;
}

/// The suite of a record, as it was, from here or from the sources; empty: it is not at hand.
std::string suite_at_hand(const Provenance& head) {
  for (const fs::path& path : {fs::path(head.suite_path), home_directory() / head.suite_path}) {
    std::ifstream stream(path, std::ios::binary);
    if (fs::is_regular_file(path) && sha256(std::string(std::istreambuf_iterator<char>(stream), {})) == head.suite_sha256) return path.string();
  }
  return "";
}

/// Why the cases of a record cannot be run again by this program on this machine; empty: they can.
std::string why_not_again(const RecordFile& record) {
  const Provenance& head = record.head;
  if (head.commit != build_info().commit || head.dirty != build_info().dirty)
    return fmt::format("{} is of commit {}, this program of {}", record.path, head.commit, build_info().commit);
  const std::string path = suite_at_hand(head);
  if (path.empty()) return fmt::format("{}, the suite of {}, is not here as it was", head.suite_path, record.path);
  std::vector<Override> overrides;
  const std::vector<std::string> flags = flags_of_cases(head.command);
  for (std::size_t i = 0; i + 1 < flags.size(); i += 2) {
    if (flags[i] == "--set") overrides.push_back(parse_override(flags[i + 1]));
  }
  try {
    const Suite suite = load_suite(path, overrides);
    const std::unique_ptr<Machine> machine = open_machine(record.rows.front().device);
    if (provenance_here(suite, "", machine->device(), machine->gpu()).fingerprint != head.fingerprint) return record.path + " is of another machine or build";
  } catch (const BadInput& error) {
    return error.what();
  }
  return "";
}

/// This program with these arguments, silent on stdout; its exit code, or 128 where a signal ended it. It does not outlive this process.
int run_self(const std::vector<std::string>& arguments) {
  std::vector<const char*> words{"prnn"};
  for (const std::string& word : arguments) words.push_back(word.c_str());
  words.push_back(nullptr);
  const pid_t parent = getpid(), child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || !std::freopen("/dev/null", "w", stdout)) _exit(127);
    execv("/proc/self/exe", const_cast<char* const*>(words.data()));
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/// Whether a record is there and has all of these cases.
bool has_all(const std::string& path, const std::vector<std::string>& case_ids) {
  try {
    const RecordFile file = read_record_file(path);
    return std::all_of(case_ids.begin(), case_ids.end(), [&](const std::string& id) { return file.find(id); });
  } catch (const BadInput&) {
    return false;
  }
}

/// Runs groups again, in a fresh process, into the next record beside the first: as many of these as one command line holds, one at least. The record has its name once it is whole.
/// Returns why not; empty: it is there.
std::string run_again(const Runs& candidate, const std::set<std::string>& group_ids) {
  constexpr std::size_t kMostCases = 200;  // a regular expression of many more is too complex for the library
  const RecordFile& first = candidate.files.front();
  const std::vector<std::string> case_ids = cases_of(first, group_ids, kMostCases);
  const std::string path = again_path(first.path, static_cast<int>(candidate.files.size())), part = path + ".part.jsonl";
  std::vector<std::string> words = arguments_for(first, suite_at_hand(first.head), case_ids);
  if (first.head.interleaved_with) {
    words.insert(words.end(), {"--against", first.head.interleaved_with->program});
    const std::vector<std::string> processes = flags_of(first.head.command, {"--processes"});  // as many again: a session is worth as much as the first
    words.insert(words.end(), processes.begin(), processes.end());
  }
  words.insert(words.end(), {"--no-report", "--out", part});
  std::error_code error, ignored;
  for (const std::string& left : {part, against_path(part)}) fs::remove(left, ignored);  // of a run that was killed
  const int code = run_self(words);
  if (!has_all(part, case_ids)) return fmt::format("code {} and no whole record from {}", code, pasteable(words));
  if (fs::exists(against_path(part))) fs::rename(against_path(part), against_path(path), error);
  if (!error) fs::rename(part, path, error);
  return error ? fmt::format("{}: {}", path, error.message()) : "";
}

// --- the gate ----------------------------------------------------------------------------------------------------------

/// A whole file or none of it; throws BadInput.
void write_whole(const std::string& flag, const std::string& path, const std::string& text) {
  const std::string beside = path + ".part";
  std::error_code error;
  std::ofstream stream(beside, std::ios::binary);
  stream << text;
  stream.close();
  if (stream) fs::rename(beside, path, error);
  if (stream && !error) return;
  std::error_code ignored;
  fs::remove(beside, ignored);
  throw BadInput(fmt::format("{} {}: cannot be written", flag, path));
}

struct Inputs {
  Runs candidate;
  std::vector<RecordFile> partners, calibration_partners;
  std::vector<Runs> baselines;
  std::optional<Runs> calibration;
  GatePolicy policy;
};

void read_candidate(Inputs& inputs, const std::string& path) {
  inputs.candidate = load_candidate(path);
  inputs.partners = partners_of(std::span(inputs.candidate.files).subspan(1));  // the first's is a baseline
}

std::vector<GateVerdict> judge_all(const Inputs& inputs) {
  std::vector<GateVerdict> verdicts;
  std::vector<RecordFile> partners = inputs.partners;
  partners.insert(partners.end(), inputs.calibration_partners.begin(), inputs.calibration_partners.end());
  for (const Runs& baseline : inputs.baselines) verdicts.push_back(judge(inputs.candidate, baseline, partners, inputs.calibration ? &*inputs.calibration : nullptr, inputs.policy));
  return verdicts;
}

Finding worst(const std::vector<GateVerdict>& verdicts) {
  Finding first = Finding::pass;
  for (const GateVerdict& verdict : verdicts) first = std::min(first, verdict.finding());
  return first;
}

/// Groups of the cases whose verdict a fresh run may change; none where that would not change the exit code.
std::set<std::string> groups_worth_a_run(const std::vector<GateVerdict>& verdicts, const GatePolicy& policy) {
  std::set<std::string> groups;
  if (worst(verdicts) < Finding::slower) return groups;
  for (const GateVerdict& verdict : verdicts) {
    for (const CaseVerdict& c : verdict.cases) {
      if (c.worth_a_run(policy.resample_runs)) groups.insert(c.group_id);
    }
  }
  return groups;
}

std::vector<GateReport::Input> inputs_of(const Inputs& inputs, const std::string& policy_path) {
  std::vector<GateReport::Input> list;
  const auto add = [&](const char* role, const std::vector<RecordFile>& files) {
    for (const RecordFile& file : files) list.push_back({role, file.path, file.sha256});
  };
  add("candidate", inputs.candidate.files);
  for (const Runs& baseline : inputs.baselines) add("baseline", baseline.files);
  add("partner", inputs.partners);
  if (inputs.calibration) add("calibration", inputs.calibration->files);
  add("calibration", inputs.calibration_partners);
  if (!policy_path.empty()) {
    std::ifstream stream(policy_path, std::ios::binary);
    list.push_back({"policy", policy_path, sha256(std::string(std::istreambuf_iterator<char>(stream), {}))});
  }
  return list;
}

}  // namespace

int gate_command(const GateFlags& flags, const std::string& command) {
  Inputs inputs;
  inputs.policy = load_gate_policy(flags.policy);
  if (flags.lenient) inputs.policy.strict = false;
  GateReport report;
  read_candidate(inputs, flags.record);
  for (const std::string& baseline : flags.baselines) {
    if (!inputs.policy.strict && baseline_files(baseline).empty()) report.notes.push_back(fmt::format("baseline '{}' is not there", baseline));
    else inputs.baselines.push_back(load_baseline(baseline));
  }
  if (!flags.calibration.empty()) {
    inputs.calibration = load_baseline(flags.calibration);
    inputs.calibration_partners = partners_of(inputs.calibration->files);
  }

  report.verdicts = judge_all(inputs);
  std::string why_not;
  for (std::set<std::string> groups; !(groups = groups_worth_a_run(report.verdicts, inputs.policy)).empty();) {
    why_not = flags.replay ? "--replay judges the files alone" : why_not_again(inputs.candidate.files.front());
    if (why_not.empty()) why_not = run_again(inputs.candidate, groups);
    if (!why_not.empty()) break;
    read_candidate(inputs, flags.record);
    report.verdicts = judge_all(inputs);
  }
  if (!why_not.empty()) {
    report.notes.push_back("nothing is run again: " + why_not);
    report.next = command;
    if (const std::size_t replay = report.next.find(" --replay"); replay != std::string::npos) report.next.erase(replay, 9);
  } else if (worst(report.verdicts) == Finding::inconclusive) {
    report.next = fmt::format("prnn gate {} --baseline NAME with a larger resample.runs in --policy, or NAME of more A/A runs: prnn baseline save NAME FILE FILE FILE ...",
                              quoted(flags.record));
  }

  const RecordFile& first = inputs.candidate.files.front();
  if (inputs.baselines.empty()) {
    std::vector<std::string> planned;
    for (const CaseRecord& row : first.rows) planned.push_back(row.case_id);
    report.code = exit_code(first.rows, planned);
  } else {
    report.code = exit_code(worst(report.verdicts));
  }
  report.inputs = inputs_of(inputs, flags.policy);
  for (const GateVerdict& verdict : report.verdicts) {
    for (const CaseVerdict& c : verdict.cases) {
      if (c.finding != Finding::pass) report.commands[c.case_id] = pasteable(arguments_for(first, first.head.suite_path, {c.case_id}));
    }
  }
  if (!flags.junit.empty()) write_whole("--junit", flags.junit, gate_junit(report));
  if (!flags.markdown.empty()) write_whole("--markdown", flags.markdown, gate_markdown(report));
  if (flags.json) std::cout << to_json(report).dump() << std::endl;
  else std::cout << gate_text(report, stdout_has_color()) << std::flush;
  return report.code;
}

int compare_command(const std::string& a, const std::string& b, bool json) {
  const Runs baseline = load_baseline(a), candidate = fs::is_regular_file(b) ? load_candidate(b) : load_baseline(b);
  const std::vector<CaseVerdict> cases = compare(candidate, baseline, partners_of(std::span(candidate.files).subspan(1)), {});
  if (!json) {
    std::cout << compare_text(cases, a, b);
    if (baseline.files.front().head.fingerprint != candidate.files.front().head.fingerprint)
      std::cout << "note: of two machines or builds: absolute times say nothing about the code alone\n";
    std::cout << std::flush;
    return 0;
  }
  Json list = Json::array();
  for (const CaseVerdict& verdict : cases) {
    const Compared& c = verdict.compared.front();
    list.push_back(
        {{"case_id", verdict.case_id}, {"a_s", *verdict.baseline_s}, {"b_s", *verdict.time_s}, {"ratio", c.ratio}, {"ci95_low", c.low}, {"ci95_high", c.high}, {"basis", c.basis}});
  }
  std::cout << Json{{"a", a}, {"b", b}, {"same_machine", baseline.files.front().head.fingerprint == candidate.files.front().head.fingerprint}, {"cases", list}}.dump() << std::endl;
  return 0;
}

}  // namespace prnn
