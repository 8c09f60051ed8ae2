// gate_output.cpp: see gate_output.hpp.
#include "harness/gate_output.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/progress.hpp"

namespace prnn {
namespace {

constexpr Finding kFindings[] = {Finding::wrong, Finding::broken, Finding::not_converged, Finding::slower, Finding::inconclusive, Finding::unenforceable, Finding::pass};

std::string time_text(const std::optional<double>& time_s) { return time_s ? readable_time(*time_s) : "-"; }

std::string ratio_text(const CaseVerdict& verdict) {
  if (verdict.compared.empty()) return "-";
  const Compared& worst = *std::min_element(verdict.compared.begin(), verdict.compared.end(), [](const Compared& a, const Compared& b) { return a.finding < b.finding; });
  return fmt::format("{} ({} .. {})", readable_ratio(worst.ratio), readable_ratio(worst.low), readable_ratio(worst.high));
}

std::string counts_text(const GateVerdict& verdict) {
  std::string text = fmt::format("{} cases:", verdict.cases.size());
  bool first = true;
  for (const Finding finding : kFindings) {
    const std::size_t count = verdict.count(finding);
    if (count == 0) continue;
    text += fmt::format("{} {} {}", first ? "" : ",", count, to_string(finding));
    first = false;
  }
  return text;
}

/// Of margins that are too tight to be enforced, how many and how far off; empty: there are none.
std::string unenforceable_text(const GateVerdict& verdict) {
  const CaseVerdict* worst = nullptr;
  double enforced = 0;
  for (const CaseVerdict& c : verdict.cases) {
    for (const Compared& compared : c.compared) {
      if (c.finding != Finding::unenforceable || compared.enforced <= enforced) continue;
      worst = &c;
      enforced = compared.enforced;
    }
  }
  if (!worst) return "";
  return fmt::format(
      "{} margins are unenforceable, tighter than the smallest effect detectable, which counts instead: {} at most, {}; more A/A runs in the baseline make it smaller",
      verdict.count(Finding::unenforceable), readable_ratio(1 + enforced), worst->case_id);
}

/// What a verdict adds to its cases.
std::vector<std::string> notes_of(const GateVerdict& verdict) {
  std::vector<std::string> notes = verdict.notes;
  if (std::string text = unenforceable_text(verdict); !text.empty()) notes.push_back(std::move(text));
  return notes;
}

std::string command_of(const GateReport& report, const CaseVerdict& verdict) {
  const auto found = report.commands.find(verdict.case_id);
  return found == report.commands.end() ? "" : found->second;
}

/// Text inside XML: markup escaped, what XML 1.0 has no letter for replaced.
std::string xml(const std::string& text) {
  std::string escaped;
  for (const char c : Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>()) {
    if (c == '&') escaped += "&amp;";
    else if (c == '<') escaped += "&lt;";
    else if (c == '>') escaped += "&gt;";
    else if (c == '"') escaped += "&quot;";
    else escaped += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return escaped;
}

/// Text inside a cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped += c == '|' ? std::string("\\|") : std::string(1, c == '\n' ? ' ' : c);
  return escaped;
}

/// The element inside a testcase; empty: it passed.
const char* junit_element(Finding finding) {
  switch (finding) {
    case Finding::wrong:
    case Finding::not_converged:
    case Finding::slower: return "failure";
    case Finding::broken: return "error";
    case Finding::inconclusive: return "skipped";
    default: return "";
  }
}

}  // namespace

std::string gate_text(const GateReport& report, bool color) {
  std::string text;
  for (const GateVerdict& verdict : report.verdicts) {
    for (const CaseVerdict& c : verdict.cases) {
      if (exit_code(c.finding) == 0) continue;
      text += fmt::format("{}{:<13}{}  {}\n    {}\n", color ? "\x1b[31m" : "", to_string(c.finding), color ? "\x1b[0m" : "", c.case_id, c.reason);
      if (const std::string command = command_of(report, c); !command.empty()) text += "    " + command + "\n";
    }
    for (const std::string& note : notes_of(verdict)) text += fmt::format("note: {}\n", note);
    text += fmt::format("{} against {}: {}\n", verdict.candidate, verdict.baseline, counts_text(verdict));
  }
  for (const std::string& note : report.notes) text += fmt::format("note: {}\n", note);
  if (!report.next.empty()) text += "next: " + report.next + "\n";
  return text + fmt::format("exit code {}\n", report.code);
}

std::string gate_markdown(const GateReport& report) {
  std::string text;
  for (const GateVerdict& verdict : report.verdicts) {
    text += fmt::format("### prnn gate: {}\n\n`{}` against `{}`: {}\n\n", to_string(verdict.finding()), verdict.candidate, verdict.baseline, counts_text(verdict));
    bool has_head = false;
    for (const CaseVerdict& c : verdict.cases) {
      if (exit_code(c.finding) == 0) continue;
      if (!has_head) text += "| finding | case | time | baseline | ratio - 1 (95 %) | reason |\n|---|---|---|---|---|---|\n";
      has_head = true;
      text +=
          fmt::format("| {} | `{}` | {} | {} | {} | {} |\n", to_string(c.finding), cell(c.case_id), time_text(c.time_s), time_text(c.baseline_s), ratio_text(c), cell(c.reason));
    }
    for (const std::string& note : notes_of(verdict)) text += fmt::format("\nNote: {}\n", note);
    std::string commands;
    for (const CaseVerdict& c : verdict.cases) {
      if (exit_code(c.finding) != 0 && !command_of(report, c).empty()) commands += "    " + command_of(report, c) + "\n";
    }
    if (!commands.empty()) text += "\nOne case alone:\n\n" + commands;
    text += "\n";
  }
  for (const std::string& note : report.notes) text += fmt::format("Note: {}\n\n", note);
  if (!report.next.empty()) text += fmt::format("Next: `{}`\n\n", report.next);
  text += fmt::format("Exit code {}. The same verdict from the same files: `prnn gate --replay`.\n\n| file | role | sha256 |\n|---|---|---|\n", report.code);
  for (const auto& [role, path, hash] : report.inputs) text += fmt::format("| `{}` | {} | `{}` |\n", cell(path), role, hash);
  return text;
}

std::string gate_junit(const GateReport& report) {
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"prnn gate\">\n";
  for (const GateVerdict& verdict : report.verdicts) {
    const auto count = [&](std::string_view element) {
      return std::count_if(verdict.cases.begin(), verdict.cases.end(), [&](const CaseVerdict& c) { return junit_element(c.finding) == element; });
    };
    text += fmt::format("  <testsuite name=\"{} against {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n    <properties>\n", xml(verdict.candidate),
                        xml(verdict.baseline), verdict.cases.size(), count("failure"), count("error"), count("skipped"));
    for (const auto& [role, path, hash] : report.inputs) text += fmt::format("      <property name=\"{} {}\" value=\"sha256 {}\"/>\n", xml(role), xml(path), hash);
    text += "    </properties>\n";
    for (const CaseVerdict& c : verdict.cases) {
      text += fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"{:.9f}\"", xml(c.group_id), xml(c.case_id), c.time_s.value_or(0));
      const std::string element = junit_element(c.finding), command = command_of(report, c);
      if (element == "skipped") text += fmt::format(">\n      <skipped message=\"{}: {}\"/>\n    </testcase>\n", to_string(c.finding), xml(c.reason));
      else if (!element.empty())
        text += fmt::format(">\n      <{} type=\"{}\" message=\"{}\">{}</{}>\n    </testcase>\n", element, to_string(c.finding), xml(c.reason), xml(command), element);
      else if (!c.reason.empty()) text += fmt::format(">\n      <system-out>{}: {}</system-out>\n    </testcase>\n", to_string(c.finding), xml(c.reason));
      else text += "/>\n";
    }
    text += "  </testsuite>\n";
  }
  return text + "</testsuites>\n";
}

Json to_json(const CaseVerdict& verdict) {
  const auto number = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  Json json{{"case_id", verdict.case_id},       {"finding", to_string(verdict.finding)},    {"reason", verdict.reason},
            {"time_s", number(verdict.time_s)}, {"baseline_s", number(verdict.baseline_s)}, {"runs", verdict.runs},
            {"compared", Json::array()}};
  for (const Compared& c : verdict.compared) {
    json["compared"].push_back({{"metric", c.metric},
                                {"finding", to_string(c.finding)},
                                {"ratio", c.ratio},
                                {"ci95_low", c.low},
                                {"ci95_high", c.high},
                                {"margin", c.margin},
                                {"enforced", c.enforced},
                                {"detectable", c.detectable},
                                {"p", c.p},
                                {"ratio_in_cycles", number(c.ratio_in_cycles)},
                                {"basis", c.basis}});
  }
  return json;
}

Json to_json(const GateReport& report) {
  Json json{{"exit_code", report.code},
            {"verdicts", Json::array()},
            {"notes", report.notes},
            {"next", report.next.empty() ? Json(nullptr) : Json(report.next)},
            {"inputs", Json::array()}};
  for (const GateVerdict& verdict : report.verdicts) {
    Json counts = Json::object(), cases = Json::array();
    for (const Finding finding : kFindings) counts[std::string(to_string(finding))] = verdict.count(finding);
    for (const CaseVerdict& c : verdict.cases) {
      cases.push_back(to_json(c));
      cases.back()["command"] = command_of(report, c);
    }
    json["verdicts"].push_back({{"candidate", verdict.candidate},
                                {"baseline", verdict.baseline},
                                {"finding", to_string(verdict.finding())},
                                {"counts", counts},
                                {"notes", verdict.notes},
                                {"cases", cases}});
  }
  for (const auto& [role, path, hash] : report.inputs) json["inputs"].push_back({{"role", role}, {"path", path}, {"sha256", hash}});
  return json;
}

std::string compare_text(const std::vector<CaseVerdict>& cases, const std::string& a, const std::string& b) {
  std::vector<const CaseVerdict*> order;
  for (const CaseVerdict& verdict : cases) order.push_back(&verdict);
  std::stable_sort(order.begin(), order.end(), [](const CaseVerdict* x, const CaseVerdict* y) { return x->compared.front().ratio > y->compared.front().ratio; });
  std::string text = fmt::format("{:>10}  {:>10}  {:>7}  {:<17}  {:<36}  case\n", "A", "B", "B / A", "95 %", "basis");
  for (const CaseVerdict* verdict : order) {
    const Compared& c = verdict->compared.front();
    text += fmt::format("{:>10}  {:>10}  {:>7.4f}  {:.4f} .. {:.4f}  {:<36}  {}\n", time_text(verdict->baseline_s), time_text(verdict->time_s), c.ratio, c.low, c.high, c.basis,
                        verdict->case_id);
  }
  return text + fmt::format("A = {}, B = {}: {} cases\n", a, b, cases.size());
}

}  // namespace prnn
