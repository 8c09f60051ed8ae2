// turns.cpp: see turns.hpp.
#include "harness/turns.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <set>

namespace prnn {

namespace {

/// f(), and where the line lacks what it reads, one line that says so.
template <class F>
auto expecting(const char* what, F&& f) {
  try {
    return f();
  } catch (const Json::exception&) {
    throw BadInput(fmt::format("standard input: expected {{\"{}\": ...}}, as prnn run --against says it to the programs that it runs", what));
  }
}

}  // namespace

std::optional<std::string> LinePipe::read() const {
  std::string line;
  for (char c = 0;;) {
    const ssize_t count = ::read(in_, &c, 1);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    if (c == '\n') return line;
    line += c;
  }
}

bool LinePipe::write(std::string_view line) const {
  const std::string text = std::string(line) + "\n";
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(out_, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    written += static_cast<std::size_t>(count);
  }
  return true;
}

std::optional<Json> Turns::read() {
  const std::optional<std::string> line = pipe_.read();
  closed_ = !line;
  if (closed_) return std::nullopt;
  return Json::parse(*line, nullptr, false);  // what is no JSON lacks every field too
}

std::optional<Turns::Begin> Turns::begin(const Provenance& head) {
  pipe_.write(Json{{"hello", kTurnsVersion}, {"head", to_json(head)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  const std::optional<Json> said = read();
  if (!said) return std::nullopt;
  return expecting("begin", [&] {
    const Json& given = said->at("begin");
    Begin begin{given.at("order_seed").get<std::uint64_t>(), given.at("judge").get<bool>(), {}};
    if (!given.at("copy_bytes_per_s").is_null()) begin.copy_bytes_per_s = given.at("copy_bytes_per_s").get<double>();
    return begin;
  });
}

std::vector<Group> Turns::todo(std::vector<Group> plan, double copy_bytes_per_s, double launch_s) {
  Json groups = Json::array();
  for (const Group& group : plan) {
    Json case_ids = Json::array();
    for (const Case& c : group.cases) case_ids.push_back(c.case_id);
    groups.push_back({{"group_id", group.group_id}, {"case_ids", std::move(case_ids)}});
  }
  pipe_.write(Json{{"plan", std::move(groups)}, {"copy_bytes_per_s", copy_bytes_per_s}, {"launch_s", launch_s}}.dump());
  const std::optional<Json> said = read();
  if (!said) return {};
  const auto wanted = expecting("todo", [&] { return said->at("todo").get<std::set<std::string>>(); });
  std::erase_if(plan, [&](const Group& group) { return !wanted.contains(group.group_id); });
  return plan;
}

void Turns::working(std::string_view what) const { pipe_.write(Json{{"working", what}}.dump()); }

void Turns::ready(const std::string& group_id, const std::vector<std::string>& case_ids) {
  announced_ = group_id;
  in_group_ = true;
  pipe_.write(Json{{"ready", group_id}, {"cases", case_ids}}.dump());
}

std::optional<Turn> Turns::next() {
  if (!in_group_) return std::nullopt;
  const std::optional<Json> said = read();
  in_group_ = said && !said->contains("end");
  if (!in_group_) return std::nullopt;
  if (said->contains("again")) return Turn{};
  return expecting("turn", [&] { return Turn{said->at("turn").get<int>(), said->at("samples").get<int>()}; });
}

void Turns::visited(int subject, std::int64_t samples, double spent_s) const { pipe_.write(Json{{"visited", subject}, {"samples", samples}, {"spent_s", spent_s}}.dump()); }

void Turns::wait_for_end(const std::string& group_id) {
  if (announced_ != group_id) ready(group_id, {});
  while (const std::optional<Turn> turn = next()) {
    if (turn->subject >= 0) visited(turn->subject, 0, 0);
  }
}

void Turns::rows(const std::vector<CaseRecord>& group) const {
  Json rows = Json::array();
  for (const CaseRecord& row : group) rows.push_back(to_json(row));
  pipe_.write(Json{{"rows", std::move(rows)}}.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace prnn
