// record.cpp: rows <-> JSON by one list of fields, the file they are appended to, and what is left to do when a run is continued.
#include "harness/record.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>
#include <utility>

#include "harness/build_info.hpp"
#include "harness/sha256.hpp"
#include "kernels/fault.hpp"
#include "reference/thresholds.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

constexpr int kSchema = 1;

/// Why a field is null where nobody gave a better reason; short, for it stands in every row.
std::string default_reason(const std::string& field, const CaseRecord& row) {
  const auto is = [&](std::initializer_list<std::string_view> names) { return std::find(names.begin(), names.end(), field) != names.end(); };
  if (field == "weight_std") return "regime's own";
  if (is({"cell", "jacobian"})) return fmt::format("op {} has none", row.problem.op);
  if (field == "gpu_name") return "not run on a GPU";
  if (field == "visits") return "one process";
  const std::string& ran = row.policy_solver.empty() ? row.solver : row.policy_solver;
  if (is({"rounds", "boundaries", "boundaries_failed"})) return "has none";
  if (is({"error_du", "error_da", "error_dh0", "error_end_to_end"}) && row.problem.pass == "forward") return "forward";
  if (is({"error", "error_end_to_end"}) && row.problem.pass == "backward") return "states are given";
  if (row.status == Status::skipped) return "skipped";
  if (row.status == Status::error || row.status == Status::timeout) return "status " + std::string(to_string(row.status));
  if (is({"floor_s", "floor_fraction"}) && row.cache == "hot") return "cache hot: the floor is for memory traffic";
  if (is({"iterations", "converged", "residual_max", "step_max"}) && ran.starts_with("seq_")) return "sequential";
  if (is({"iterations", "converged", "residual_max", "step_max"}) && row.problem.op == "reduction") return "a scan";
  if (field == "converged" && row.problem.iteration_limit) return "a fixed count of iterations is not checked";
  if (field == "compute_floor_s") return "the rate of flops and special functions is not measured in this build";
  if (is({"lyapunov", "jacobian_max"})) return row.problem.pass == "backward" ? "states are given" : "no reference";
  if (field == "truncation") return row.problem.pass == "backward" ? "states are given" : row.problem.iteration_limit ? "not measured" : "no fixed count";
  return "not measured";
}

// --- fields <-> JSON -----------------------------------------------------------------------------------------------------
// describe() lists the fields once; Writer and Reader are its two visitors.

void describe(auto&& field, TimeSummary&);
void describe(auto&& field, ErrorSize&);
void describe(auto&& field, ErrorSummary&);
void describe(auto&& field, EndToEndError&);
void describe(auto&& field, TruncationSummary&);
void describe(auto&& field, Speedup&);
void describe(auto&& field, Visit&);
void describe(auto&& field, Interleaved&);
void describe(auto&& field, CaseRecord&);

class Writer {
 public:
  explicit Writer(const CaseRecord& row) : row_(row) {}

  void operator()(const char* name, const std::string& value) { json_[name] = value; }
  void operator()(const char* name, std::int64_t value) { json_[name] = value; }
  void operator()(const char* name, std::uint64_t value) { json_[name] = value; }
  void operator()(const char* name, bool value) { json_[name] = value; }
  void operator()(const char* name, double value) {
    if (PRNN_FAULT(45, std::isfinite(value), !std::isnan(value))) json_[name] = value;
    else null(name, fmt::format("not finite: {}", value));
  }
  void operator()(const char* name, Storage value) { json_[name] = to_string(value); }
  void operator()(const char* name, Status value) { json_[name] = to_string(value); }
  template <class T>
  void operator()(const char* name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
    else null(name);
  }
  void operator()(const char* name, const std::vector<double>& values) {
    if (values.empty()) return null(name);
    Json list = Json::array();
    for (std::size_t k = 0; k < values.size(); ++k) {
      const bool finite = std::isfinite(values[k]);
      list.push_back(finite ? Json(values[k]) : Json(nullptr));
      if (!finite) explain(fmt::format("{}[{}]", name, k), fmt::format("not finite: {}", values[k]));
    }
    json_[name] = std::move(list);
  }
  void operator()(const char* name, const std::vector<std::array<std::int64_t, 2>>& pairs) { json_[name] = pairs; }
  void operator()(const char* name, const std::vector<Visit>& visits) {
    json_[name] = Json::array();
    for (std::size_t k = 0; k < visits.size(); ++k) {
      Writer inner(row_, fmt::format("{}{}[{}].", prefix_, name, k));
      describe(inner, const_cast<Visit&>(visits[k]));
      json_[name].push_back(std::move(inner.json_));
      reasons_.insert(inner.reasons_.begin(), inner.reasons_.end());
    }
  }
  template <class T>
    requires requires(T& value, Writer& writer) { describe(writer, value); }
  void operator()(const char* name, const T& value) {
    Writer inner(row_, prefix_ + name + ".");
    describe(inner, const_cast<T&>(value));
    json_[name] = std::move(inner.json_);
    reasons_.insert(inner.reasons_.begin(), inner.reasons_.end());
  }
  void operator()(const char* name, const std::map<std::string, Speedup>& speedups) {
    json_[name] = Json::object();
    for (const auto& [field, why] : row_.null_reasons) {  // of the baselines that are missing
      if (field.starts_with("speedup.")) reasons_[field] = why;
    }
    for (const auto& [baseline, speedup] : speedups) {
      Writer inner(row_, fmt::format("{}{}.{}.", prefix_, name, baseline));
      describe(inner, const_cast<Speedup&>(speedup));
      json_[name][baseline] = std::move(inner.json_);
      reasons_.insert(inner.reasons_.begin(), inner.reasons_.end());
    }
    const std::string prefix = std::string(name) + ".";
    for (const auto& [field, reason] : row_.null_reasons) {  // a baseline without a speedup
      if (!field.starts_with(prefix) || speedups.contains(field.substr(prefix.size()))) continue;
      json_[name][field.substr(prefix.size())] = nullptr;
      reasons_[field] = reason;
    }
  }
  void iteration_limit(const std::optional<int>& limit) { json_["iteration_limit"] = limit ? Json(*limit) : Json("adaptive"); }
  void policy(const Policy& policy, const std::string& solver) {
    json_["policy"] = Json::object();
    if (!solver.empty()) json_["policy"]["solver"] = solver;
    for (const auto& [key, value] : policy) json_["policy"][key] = value;
  }
  /// What the op is done with: under the name of its axis, and null under the other.
  void cell(const std::string& op, const std::string& name) {
    const bool is_cell = std::none_of(ops().begin(), ops().end(), [&](const Op& known) { return known.name == op && known.axis == "jacobian"; });
    text("cell", is_cell ? name : "");
    text("jacobian", is_cell ? "" : name);
  }
  void text(const char* name, const std::string& value) {  // empty: null
    if (value.empty()) null(name);
    else json_[name] = value;
  }
  void null_reasons(const std::map<std::string, std::string>&) {}  // known at the end only
  template <class T>
  void newer(const char* name, const std::optional<T>& value) {
    (*this)(name, value);
  }

  Json json_ = Json::object();
  std::map<std::string, std::string> reasons_;

 private:
  Writer(const CaseRecord& row, std::string prefix) : row_(row), prefix_(std::move(prefix)) {}
  void explain(const std::string& field, const std::string& reason) {
    const auto given = row_.null_reasons.find(prefix_ + field);
    reasons_[prefix_ + field] = given != row_.null_reasons.end() ? given->second : reason;
  }
  void null(const char* name, const std::string& reason = "") {
    json_[name] = nullptr;
    explain(name, reason.empty() ? default_reason(name, row_) : reason);
  }
  const CaseRecord& row_;
  std::string prefix_;
};

class Reader {
 public:
  explicit Reader(const Json& json) : json_(json) {}

  const Json& at(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end()) throw BadInput(fmt::format("missing field '{}'", name));
    return *found;
  }
  static const Json& object(const Json& json, const std::string& name) {
    if (!json.is_object()) wrong_type(name);
    return json;
  }
  template <class T>
  void operator()(const char* name, T& value) {
    read(at(name), name, value);
  }
  void iteration_limit(std::optional<int>& limit) {
    const Json& json = at("iteration_limit");
    if (json == "adaptive") limit.reset();
    else read(json, "iteration_limit", limit);
  }
  void policy(Policy& policy, std::string& solver) {
    for (const auto& [key, value] : object(at("policy"), "policy").items()) {
      if (key == "solver") read(value, "policy.solver", solver);
      else read(value, "policy", policy[key]);
    }
  }
  void cell(const std::string&, std::string& name) {
    text("cell", name);
    if (name.empty() && json_.contains("jacobian")) text("jacobian", name);  // older records have cells alone
  }
  void text(const char* name, std::string& value) {
    const Json& json = at(name);
    if (json.is_null()) value.clear();
    else read(json, name, value);
  }
  /// A field that older records lack: as if it were null.
  template <class T>
  void newer(const char* name, std::optional<T>& value) {
    if (json_.contains(name)) (*this)(name, value);
    else value.reset();
  }
  void null_reasons(std::map<std::string, std::string>& reasons) { read(at("null_reasons"), "null_reasons", reasons); }

 private:
  template <class T>
  static void read(const Json& json, const std::string& name, T& value) {
    if (!matches<T>(json)) wrong_type(name);
    try {
      if constexpr (std::is_same_v<T, double>) value = json.is_null() ? std::nan("") : json.get<double>();
      else if constexpr (requires { describe(std::declval<Reader&>(), value); }) describe(Reader(object(json, name)), value);
      else value = json.get<T>();
    } catch (const Json::exception&) {
      wrong_type(name);
    }
  }
  template <class T>
  static void read(const Json& json, const std::string& name, std::optional<T>& value) {
    value.reset();
    if (!json.is_null()) read(json, name, value.emplace());
  }
  static void read(const Json& json, const std::string& name, std::vector<double>& values) {
    values.clear();
    if (json.is_null()) return;
    if (!json.is_array()) wrong_type(name);
    for (const Json& element : json) read(element, name, values.emplace_back());
  }
  static void read(const Json& json, const std::string& name, std::map<std::string, Speedup>& speedups) {
    speedups.clear();
    for (const auto& [baseline, speedup] : object(json, name).items()) {
      if (!speedup.is_null()) read(speedup, name, speedups[baseline]);
    }
  }
  static void read(const Json& json, const std::string& name, std::vector<std::array<std::int64_t, 2>>& pairs) {
    pairs.clear();
    if (!json.is_array()) wrong_type(name);
    for (const Json& pair : json) {
      if (!pair.is_array() || pair.size() != 2) wrong_type(name);
      auto& [b, d] = pairs.emplace_back();
      read(pair[0], name, b), read(pair[1], name, d);
    }
  }
  static void read(const Json& json, const std::string& name, std::vector<Visit>& visits) {
    visits.clear();
    if (!json.is_array()) wrong_type(name);
    for (const Json& visit : json) read(visit, name, visits.emplace_back());
  }
  static void read(const Json& json, const std::string& name, Storage& value) { choose(parse_storage(json.is_string() ? json.get<std::string>() : ""), name, value); }
  static void read(const Json& json, const std::string& name, Status& value) { choose(parse_status(json.is_string() ? json.get<std::string>() : ""), name, value); }
  [[noreturn]] static void wrong_type(const std::string& name) { throw BadInput(fmt::format("field '{}' has the wrong type", name)); }
  /// The library would convert between numbers, and take true for 1.
  template <class T>
  static bool matches(const Json& json) {
    if constexpr (std::is_same_v<T, bool>) return json.is_boolean();
    else if constexpr (std::is_same_v<T, double>) return json.is_number() || json.is_null();
    else if constexpr (!std::is_integral_v<T>) return true;
    else if (json.is_number_unsigned()) return std::in_range<T>(json.get<std::uint64_t>());
    else return json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
  }
  template <class T>
  static void choose(const std::optional<T>& parsed, const std::string& name, T& value) {
    if (!parsed) throw BadInput(fmt::format("field '{}' has an unknown value", name));
    value = *parsed;
  }
  const Json& json_;
};

void describe(auto&& field, TimeSummary& t) {
  field("median", t.median), field("min", t.min), field("mean", t.mean), field("mad", t.mad), field("ci95_low", PRNN_FAULT(44, t.ci95_low, t.ci95_high)),
      field("ci95_high", t.ci95_high);
  field("samples", t.samples), field("method", t.method);
}
/// ratios() stand between the sizes and what they were taken over.
void describe_error(auto&& field, ErrorSize& e, auto&& ratios) {
  field("abs_max", e.abs_max), field("rel_max", e.rel_max), field("ulp_max", e.ulp_max), field("ulp_p99", e.ulp_p99), field("rms", e.rms);
  ratios();
  field("verified_prefix", e.verified_prefix), field("channels_checked", e.channels_checked), field.text("reference", e.reference);
}
void describe(auto&& field, ErrorSize& e) {
  describe_error(field, e, [] {});
}
void describe(auto&& field, ErrorSummary& e) {
  describe_error(field, e, [&] { field("ratio_local", e.ratio_local), field("ratio_forward", e.ratio_forward), field("test_ratio", e.test_ratio); });
}
void describe(auto&& field, EndToEndError& e) { field("du", e.du), field("da", e.da), field("dh0", e.dh0); }
void describe(auto&& field, TruncationSummary& t) {
  field("truncation_max", t.truncation_max), field("rounding_max", t.rounding_max), field("verified_prefix", t.verified_prefix), field("channels_checked", t.channels_checked);
}
void describe(auto&& field, Speedup& s) { field("ratio", s.ratio), field("ci95_low", s.ci95_low), field("ci95_high", s.ci95_high); }
void describe(auto&& field, Visit& v) { field("samples", v.samples), field("process", v.process), field("clock_mhz", v.clock_mhz); }
void describe(auto&& field, Interleaved& i) { field("session", i.session), field("side", i.side), field("program", i.program), field("commit", i.commit); }

/// Every field of design section 3 but "record" and "compute", in its order.
void describe(auto&& field, CaseRecord& row) {
  Problem& p = row.problem;
  field("op", p.op), field("scope", p.scope), field.cell(p.op, p.cell), field("pass", p.pass), field("grad", p.grad), field("storage", p.storage);
  field("batch", p.batch), field("hidden", p.hidden), field("seq_len", p.seq_len), field("regime", p.regime), field("weight_std", p.weight_std), field("h0", p.h0);
  field("seed", p.seed), field("gates", p.gates), field.iteration_limit(p.iteration_limit), field("cache", row.cache);
  field("suite", row.suite), field("device", row.device), field("gpu_name", row.gpu_name), field("solver", row.solver), field.policy(row.policy, row.policy_solver);
  field("group_id", row.group_id), field("case_id", row.case_id);
  field("status", row.status), field("expected_status", row.expected_status), field("reason", row.reason), field.null_reasons(row.null_reasons);
  field("time_s", row.time_s), field("samples_s", row.samples_s), field.newer("visits", row.visits), field("time_graph_s", row.time_graph_s),
      field("graph_launches", row.graph_launches);
  field("host_s", row.host_s), field("clock_mhz", row.clock_mhz);
  field("bytes_min", row.bytes_min), field("floor_s", row.floor_s), field("floor_fraction", row.floor_fraction), field("compute_floor_s", row.compute_floor_s);
  field("flops", row.flops);
  field("iterations", row.iterations), field("converged", row.converged), field("rounds", row.rounds), field("boundaries", row.boundaries);
  field("boundaries_failed", row.boundaries_failed), field("residual_max", row.residual_max), field("step_max", row.step_max), field("deterministic", row.deterministic);
  field("lyapunov", row.lyapunov), field("jacobian_max", row.jacobian_max);
  field("error", row.error), field("error_du", row.error_du), field("error_da", row.error_da), field("error_dh0", row.error_dh0);
  field.newer("error_end_to_end", row.error_end_to_end), field.newer("truncation", row.truncation);
  field("speedup", row.speedup);
}

// --- this computer -------------------------------------------------------------------------------------------------------

/// The value after `key` and `separator` in the first line of a file that starts with key; empty: none.
std::string value_in(const char* file, const std::string& key, char separator) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    std::string value = line.substr(at + 1);
    std::erase(value, '"');
    return value.substr(std::min(value.find_first_not_of(' '), value.size()));
  }
  return "";
}

std::string os_text() {
  utsname kernel{};
  uname(&kernel);
  return fmt::format("{}, {} {}", value_in("/etc/os-release", "PRETTY_NAME", '='), kernel.sysname, kernel.release);
}

std::string cpu_text() {
  const std::string model = value_in("/proc/cpuinfo", "model name", ':');
  if (!model.empty()) return model;
  utsname kernel{};
  uname(&kernel);
  return kernel.machine;
}

// --- files ---------------------------------------------------------------------------------------------------------------

std::string reason_of(int error) { return std::strerror(error); }

/// All of text or DiskFull; what a failed write left behind is taken back, so the file stays whole lines.
void write_all(int file, const std::string& path, std::string_view text) {
  struct stat before {};
  const bool regular = fstat(file, &before) == 0 && S_ISREG(before.st_mode);
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(file, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const std::string why = count < 0 ? reason_of(errno) : "short write";
      if (regular && ftruncate(file, before.st_size) != 0) throw DiskFull(fmt::format("{}: {}; the last line may be cut short", path, why));
      throw DiskFull(fmt::format("{}: {}; the rows written before are whole, --resume continues", path, why));
    }
    written += static_cast<std::size_t>(count);
  }
  if (regular && fsync(file) != 0) throw DiskFull(fmt::format("{}: {}", path, reason_of(errno)));
}

int open_record(const std::string& path, int flags) {
  const int file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | flags, 0644);
  if (file >= 0) return file;
  if (errno == EEXIST) throw BadInput(fmt::format("--out {}: the file exists; expected a new name, or --resume to continue it", path));
  throw BadInput(fmt::format("--out {}: cannot be written: {}", path, reason_of(errno)));
}

/// What is no UTF-8 (a path may be anything) is replaced: a row is never lost for a letter.
std::string line_of_json(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

bool is_record(const Json& json, const char* kind) {
  if (!json.is_object()) return false;
  const auto record = json.find("record");
  return record != json.end() && *record == kind;
}

}  // namespace

Json to_json(const CaseRecord& row) {
  Writer writer(row);
  describe(writer, const_cast<CaseRecord&>(row));
  Json json{{"record", "case"}};
  for (auto& [name, value] : writer.json_.items()) {
    json[name] = std::move(value);
    if (name == "gpu_name") json["compute"] = to_string(compute_storage(row.problem.storage));
    if (name == "reason") json["null_reasons"] = writer.reasons_;
  }
  return json;
}

CaseRecord case_record(const Json& json) {
  if (!is_record(json, "case")) throw BadInput("expected a record \"case\"");
  CaseRecord row;
  describe(Reader(json), row);
  if (row.visits) {
    std::int64_t samples = 0;
    for (const Visit& visit : *row.visits) {
      if (visit.samples < 1 || visit.samples > std::ssize(row.samples_s) || visit.process < 0) throw BadInput("field 'visits' has an unknown value");
      samples += visit.samples;
    }
    if (samples != std::ssize(row.samples_s)) throw BadInput(fmt::format("field 'visits' has {} samples; samples_s has {}", samples, row.samples_s.size()));
  }
  return row;
}

std::optional<double> CaseRecord::worst_test_ratio() const {
  std::optional<double> worst;
  for (const std::optional<ErrorSummary>* summary : {&error, &error_du, &error_da, &error_dh0}) {
    if (*summary && (*summary)->test_ratio) worst = max_or_nan(worst.value_or(0), *(*summary)->test_ratio);
  }
  return worst;
}

CaseRecord record_of(const Case& c, const Suite& suite, const std::optional<GpuInfo>& gpu) {
  CaseRecord row;
  row.problem = c.problem;
  row.suite = suite.name;
  row.device = c.device;
  row.solver = c.solver;
  row.cache = c.cache;
  row.group_id = c.group_id;
  row.case_id = c.case_id;
  if (gpu) row.gpu_name = gpu->name;
  row.expected_status = c.expect;
  row.status = c.skip.empty() ? Status::error : Status::skipped;
  row.reason = c.skip.empty() ? "not run" : c.skip;
  return row;
}

Provenance provenance_here(const Suite& suite, const std::string& command, std::string_view device, const std::optional<GpuInfo>& gpu) {
  const BuildInfo& build = build_info();
  Provenance p;
  p.time_utc = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  p.command = command;
  p.commit = build.commit;
  p.dirty = build.dirty;
  p.compiler = build.compiler;
  p.flags = build.flags;
  p.cuda = build.cuda;
  p.cpu = cpu_text();
  p.os = os_text();
  p.cores = std::thread::hardware_concurrency();
  p.gpu = gpu;
  p.suite_path = suite.path;
  p.suite_sha256 = suite.sha256;
  p.suite_text = suite.text;
  // What makes two records comparable in absolute time; the commit is what is compared, and clocks come and go.
  std::string facts = fmt::format("{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n", device, p.cpu, p.os, p.cores, p.compiler, p.flags, p.cuda, generator_version());
  if (gpu) facts += fmt::format("{}\n{}\n{}\n{}\n", gpu->name, gpu->sm, gpu->driver, gpu->memory_bytes);
  p.fingerprint = sha256(facts).substr(0, 16);
  if (suite.text_bytes) {
    p.text = {{"file", suite.text_file},
              {"package", suite.text_file == kInstalledText.file ? kInstalledText.package : "none"},
              {"bytes", std::to_string(suite.text_bytes->size())},
              {"sha256", sha256({reinterpret_cast<const char*>(suite.text_bytes->data()), suite.text_bytes->size()})}};
  }
  return p;
}

Json to_json(const Provenance& p) {
  const auto number = [](const std::optional<double>& value) { return value && std::isfinite(*value) ? Json(*value) : Json(nullptr); };
  Json json{{"record", "provenance"}, {"schema", kSchema}, {"time_utc", p.time_utc}, {"command", p.command}, {"commit", p.commit}, {"dirty", p.dirty}};
  json["build"] = Json{{"compiler", p.compiler}, {"flags", p.flags}, {"cuda", p.cuda}};
  json["machine"] = Json{{"cpu", p.cpu}, {"cores", p.cores}, {"os", p.os}};
  json["gpu"] = nullptr;
  if (p.gpu)
    json["gpu"] = Json{{"name", p.gpu->name}, {"sm", p.gpu->sm}, {"driver", p.gpu->driver}, {"memory_bytes", p.gpu->memory_bytes}, {"clock_mhz", number(p.gpu->clock_mhz)}};
  json["suite"] = Json{{"path", p.suite_path}, {"sha256", p.suite_sha256}, {"text", p.suite_text}};
  json["order_seed"] = p.order_seed;
  json["copy_bytes_per_s"] = number(p.copy_bytes_per_s);
  json["launch_s"] = number(p.launch_s);
  json["error_factor"] = kErrorFactor;  // a row passes up to this x its bound: drawn by plots/
  json["fingerprint"] = p.fingerprint;
  json["text"] = p.text.empty() ? Json(nullptr) : Json(p.text);
  json["shard"] = p.shard ? to_json(*p.shard) : Json(nullptr);
  json["interleaved_with"] = nullptr;
  if (p.interleaved_with) {
    const auto& [session, side, program, commit] = *p.interleaved_with;
    json["interleaved_with"] = Json{{"session", session}, {"side", side}, {"program", program}, {"commit", commit}};
  }
  json["cell"] = p.cell.empty() ? Json(nullptr) : Json(p.cell);
  json["inject"] = p.inject.empty() ? Json(nullptr) : Json(p.inject);
  return json;
}

Provenance provenance(const Json& json) {
  if (!is_record(json, "provenance")) throw BadInput("expected a record \"provenance\"");
  if (const auto schema = json.find("schema"); schema == json.end() || *schema != kSchema) throw BadInput(fmt::format("expected schema {}", kSchema));
  Provenance p;
  const auto part = [&](const char* name) { return Reader(Reader::object(Reader(json).at(name), name)); };
  Reader head(json), build = part("build"), machine = part("machine"), suite = part("suite");
  head("time_utc", p.time_utc), head("command", p.command), head("commit", p.commit), head("dirty", p.dirty);
  build("compiler", p.compiler), build("flags", p.flags), build("cuda", p.cuda);
  machine("cpu", p.cpu), machine("cores", p.cores), machine("os", p.os);
  if (!head.at("gpu").is_null()) {
    Reader gpu = part("gpu");
    p.gpu.emplace();
    gpu("name", p.gpu->name), gpu("sm", p.gpu->sm), gpu("driver", p.gpu->driver), gpu("memory_bytes", p.gpu->memory_bytes), gpu("clock_mhz", p.gpu->clock_mhz);
    if (std::isnan(p.gpu->clock_mhz)) p.gpu->clock_mhz = 0;
  }
  suite("path", p.suite_path), suite("sha256", p.suite_sha256), suite("text", p.suite_text);
  head("order_seed", p.order_seed), head("copy_bytes_per_s", p.copy_bytes_per_s), head("launch_s", p.launch_s), head("fingerprint", p.fingerprint);
  if (!head.at("text").is_null()) head("text", p.text);
  if (json.contains("shard") && !json.at("shard").is_null()) p.shard = shard(json.at("shard"));
  head.newer("interleaved_with", p.interleaved_with);
  if (json.contains("cell") && !json["cell"].is_null()) {
    head("cell", p.cell);
    if (!p.cell.contains("sha256")) throw BadInput("cell: expected path, sha256 and text");
  }
  if (json.contains("inject")) head.text("inject", p.inject);
  return p;
}

Records read_records(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::error_code error;
  if (!fs::is_regular_file(path, error) || !stream) throw BadInput(path + ": no such file; expected a record that prnn run has written");  // a device may never end
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  Records records;
  std::size_t begin = 0, number = 1;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, ++number) {
    const std::string line = text.substr(begin, end - begin);
    try {
      const Json json = Json::parse(line);
      if (number == 1) {
        records.head = provenance(json);
        records.head_line = line;
      } else {
        records.rows.push_back(case_record(json));
        records.lines.push_back(line);
      }
    } catch (const Json::exception&) {
      throw BadInput(fmt::format("{}:{}: not JSON; expected one record a line", path, number));
    } catch (const BadInput& bad) {
      throw BadInput(fmt::format("{}:{}: {}", path, number, bad.what()));
    }
  }
  records.whole_bytes = static_cast<std::int64_t>(begin);
  return records;
}

RecordWriter RecordWriter::create(const std::string& path) {
  if (const fs::path parent = fs::path(path).parent_path(); !parent.empty()) {
    std::error_code error;
    fs::create_directories(parent, error);
    if (error) throw BadInput(fmt::format("--out {}: the directory cannot be made: {}", path, error.message()));
  }
  return {path, open_record(path, O_CREAT | O_EXCL)};
}

RecordWriter RecordWriter::append(const std::string& path) { return {path, open_record(path, 0)}; }

RecordWriter::RecordWriter(RecordWriter&& other) noexcept : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)) {}

RecordWriter::~RecordWriter() {
  if (file_ >= 0) ::close(file_);
}

std::string line_of(const CaseRecord& row) { return line_of_json(to_json(row)); }
std::string line_of(const Provenance& head) { return line_of_json(to_json(head)); }

void RecordWriter::write(const Provenance& head) { write_text(line_of(head) + "\n"); }

void RecordWriter::write(const std::vector<CaseRecord>& group) {
  std::string text;
  for (const CaseRecord& row : group) text += line_of(row) + "\n";
  write_text(text);
}

void RecordWriter::write_text(const std::string& text) { write_all(file_, path_, text); }

std::string sha256_of_cell(const Provenance& p) { return p.cell.empty() ? "the program's" : p.cell.at("sha256"); }

void require_same_run(const std::string& path, const Provenance& theirs, const Provenance& now) {
  const auto same = [&](const char* what, const std::string& their, const std::string& ours) {
    if (their != ours) throw BadInput(fmt::format("--resume: {} is of another {} ({}); expected {}", path, what, their, ours));
  };
  const auto shard_text = [](const Provenance& p) { return p.shard ? fmt::format("{}/{} of plan {:.7}", p.shard->index, p.shard->count, p.shard->plan_sha256) : "the whole plan"; };
  const auto kind = [](const Provenance& p) { return p.copy_bytes_per_s ? "timed" : "verified only"; };
  same("suite", theirs.suite_sha256, now.suite_sha256);
  same("machine or build", theirs.fingerprint, now.fingerprint);
  same("commit", theirs.commit, now.commit);
  same("text", Json(theirs.text).dump(), Json(now.text).dump());
  same("cell", sha256_of_cell(theirs), sha256_of_cell(now));
  same("shard", shard_text(theirs), shard_text(now));
  same("kind of run", kind(theirs), kind(now));
  same("injected damage", theirs.inject.empty() ? "none" : theirs.inject, now.inject.empty() ? "none" : now.inject);
}

void replace_record(const std::string& path, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  const std::string beside = path + ".resume";
  const int file = open_record(beside, O_CREAT | O_TRUNC);
  try {
    write_all(file, beside, text);
  } catch (const DiskFull&) {
    ::close(file);
    ::unlink(beside.c_str());
    throw;
  }
  ::close(file);
  std::error_code error;
  fs::rename(beside, path, error);
  if (error) throw BadInput(fmt::format("{}: cannot be replaced: {}", path, error.message()));
}

Resumed resume(const std::string& path, const Provenance& now, std::vector<Group> plan, bool keep_failed) {
  const Records records = read_records(path);
  const bool headless = records.head_line.empty();  // killed before the first line was whole: start over
  std::vector<std::string> kept = {headless ? line_of(now) : records.head_line};
  Resumed resumed{.groups = {}, .done = {}, .head = headless ? now : records.head};
  if (!headless) require_same_run(path, records.head, now);
  std::map<std::string, std::size_t> row_of;
  for (std::size_t i = 0; i < records.rows.size(); ++i) row_of[records.rows[i].case_id] = i;

  std::set<std::string> again;
  for (Group& group : plan) {
    const bool whole = std::all_of(group.cases.begin(), group.cases.end(), [&](const Case& c) {
      const auto found = row_of.find(c.case_id);
      if (found == row_of.end()) return false;
      const Status status = records.rows[found->second].status;
      return keep_failed || (status != Status::error && PRNN_FAULT(46, status != Status::timeout, true));
    });
    for (const Case& c : group.cases) {
      if (whole) resumed.done.push_back(records.rows[row_of.at(c.case_id)]);
      else again.insert(c.case_id);
    }
    if (!whole) resumed.groups.push_back(std::move(group));
  }
  for (std::size_t i = 0; i < records.rows.size(); ++i) {
    if (!again.contains(records.rows[i].case_id)) kept.push_back(records.lines[i]);
  }
  replace_record(path, kept);  // a kill here loses nothing
  return resumed;
}

int exit_code(const std::vector<CaseRecord>& rows, const std::vector<std::string>& planned) {
  bool wrong = false, missing = false, not_converged = false;
  std::set<std::string> present;
  for (const CaseRecord& row : rows) {
    present.insert(row.case_id);
    if (PRNN_FAULT(47, row.status == row.expected_status, row.status == row.expected_status || row.status == Status::ok)) continue;
    switch (row.status) {
      case Status::ok:  // a failure that the suite expects has not been seen
        (row.expected_status == Status::not_converged ? not_converged : wrong) = true;
        break;
      case Status::wrong: wrong = true; break;
      case Status::not_converged: not_converged = true; break;
      case Status::error:
      case Status::timeout: missing = true; break;
      case Status::skipped: missing |= !excused(row.reason); break;
    }
  }
  missing |= std::any_of(planned.begin(), planned.end(), [&](const std::string& case_id) { return !present.contains(case_id); });
  return wrong ? 2 : missing ? 5 : not_converged ? 3 : 0;
}

}  // namespace prnn
