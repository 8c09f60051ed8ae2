// suite.cpp: TOML -> Suite. The file is first flattened to entries (key, place, list of scalars), so that the command line's --set and the
// file pass the same checks.
#include "harness/suite.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <variant>

#include "harness/nearest.hpp"
#include "harness/sha256.hpp"
#include "harness/toml_file.hpp"

namespace prnn {
namespace {

using Names = std::vector<std::string>;

constexpr std::string_view kStatusNames[] = {"ok", "skipped", "wrong", "not_converged", "error", "timeout"};  // in the order of Status

/// Words of the contract that later issues bring: refused by name, never taken for a typing error.
struct Later {
  std::string_view key, word;
};
constexpr Later kLater[] = {{"scope", "layer"}, {"policy", "unroll"}};
bool is_later(std::string_view key, std::string_view word) {
  return std::any_of(std::begin(kLater), std::end(kLater), [&](const Later& later) { return later.key == key && later.word == word; });
}

constexpr std::int64_t kMaxExtent = 0xffffffff;  // the counters of the draws have 32 bits an axis: beyond, values would repeat
constexpr std::size_t kMostCases = 1'000'000;
constexpr std::int64_t kWordsAStep = 64;  // more numbers than any cell reads, writes and keeps in workspace for a step of a channel

// --- flattening --------------------------------------------------------------------------------------------------------

using Item = TomlItem;
struct Entry {
  std::string where;
  std::vector<Item> items;
};
using Entries = std::map<std::string, Entry>;

/// { pow2 = [a, b] } -> 2^a, ..., 2^b, both ends included.
std::vector<Item> powers_of_two(const TomlNode& table, const std::string& key) {
  const std::string& where = table.where;
  for (const std::string& name : table.keys) {
    if (name != "pow2") refuse(where, fmt::format("unknown key '{}' in {}{}", name, key, did_you_mean(name, {"pow2"})));
  }
  const TomlNode* ends = table.find("pow2");
  const auto end = [&](std::size_t i) { return ends && ends->elements.size() == 2 ? std::get_if<std::int64_t>(&ends->elements[i].value) : nullptr; };
  if (!end(0) || !end(1)) refuse(where, key + ": expected { pow2 = [first, last] } with two integers");
  const std::int64_t first = *end(0), last = *end(1);
  if (first < 0 || last > 62) refuse(where, fmt::format("{}: pow2 = [{}, {}] is outside 0 .. 62", key, first, last));
  if (first > last) refuse(where, fmt::format("{}: pow2 = [{}, {}] is reversed; expected first <= last", key, first, last));
  std::vector<Item> items;
  for (std::int64_t power = first; power <= last; ++power) items.push_back({std::int64_t{1} << power, where});
  return items;
}

Entry flatten(const TomlNode& node, const std::string& key) {
  Entry entry{node.where, {}};
  if (node.kind == TomlNode::Kind::table) entry.items = powers_of_two(node, key);
  else if (node.kind == TomlNode::Kind::array) entry.items.assign(node.elements.begin(), node.elements.end());
  else entry.items.push_back(node);
  if (entry.items.empty() && key != "baselines") refuse(entry.where, key + ": expected at least one value");
  return entry;
}

bool contains(const Names& names, std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); }

/// Entries of a table, all of whose keys must be known; those of `policy = { ... }` as "policy.NAME". limits and point are left to the caller.
Entries entries_of(const TomlNode& table, const std::string& in, const Names& known) {
  Entries entries;
  for (std::size_t i = 0; i < table.keys.size(); ++i) {
    const std::string& key = table.keys[i];
    const TomlNode& node = table.elements[i];
    if (!contains(known, key)) unknown_key(key, node.where, in, known);
    if (key == "limits" || key == "point") continue;
    if (key != "policy") {
      entries[key] = flatten(node, key);
      continue;
    }
    if (node.kind != TomlNode::Kind::table) refuse(node.where, "policy: expected a table, { threads = [32] }");
    for (std::size_t k = 0; k < node.keys.size(); ++k) {
      const std::string full = "policy." + node.keys[k];
      entries[full] = flatten(node.elements[k], full);
    }
  }
  return entries;
}

// --- one value ---------------------------------------------------------------------------------------------------------

/// A string that is one of known, or refused as one of a later build.
std::string known_word(const Item& item, const std::string& key, const std::string& kind, const Names& known) {
  if (const auto* text = std::get_if<std::string>(&item.value); text && !contains(known, *text)) {
    if (is_later(key, *text)) refuse(item.where, fmt::format("{} '{}' is not part of this build yet", kind, *text));
  }
  return name_of(item, key, kind, known);
}

template <class Convert>
auto values(const Entry& entry, const std::string& key, Convert convert) {
  std::vector<std::decay_t<decltype(convert(entry.items.front()))>> list;
  for (const Item& item : entry.items) {
    auto value = convert(item);
    if (std::find(list.begin(), list.end(), value) != list.end()) refuse(item.where, fmt::format("{}: duplicate value {}", key, shown(item)));
    list.push_back(std::move(value));
  }
  return list;
}

Names names(const Entry& entry, const std::string& key, const std::string& kind, const Names& known) {
  return values(entry, key, [&](const Item& item) { return known_word(item, key, kind, known); });
}

const Item& single(const Entry& entry, const std::string& key) {
  if (entry.items.size() != 1) refuse(entry.where, fmt::format("{}: expected one value, not {}", key, entry.items.size()));
  return entry.items.front();
}

// --- axes --------------------------------------------------------------------------------------------------------------

/// Those that some solver reads.
Names policy_keys() {
  std::set<std::string> keys;
  for (const Solver& solver : solvers()) {
    for (const PolicyParameter& parameter : solver.space) keys.insert(parameter.key);
  }
  return {keys.begin(), keys.end()};
}

Names op_names() {
  Names list;
  for (const Op& op : ops()) list.push_back(op.name);
  return list;
}

/// What the ops of one axis, cells or jacobian, are done with.
Names names_on(const std::string& axis) {
  Names list;
  for (const Op& op : ops()) {
    if (op.axis != axis) continue;
    for (const std::string& name : op.cells()) list.push_back(name);
  }
  return list;
}

Names solver_values(const Entry& entry, const std::string& key) {
  Names known = solver_names();
  known.push_back("all");
  const Names named = names(entry, key, "solver", known);
  if (!contains(named, "all")) return named;
  if (named.size() != 1) refuse(entry.where, key + ": \"all\" stands alone");
  return solver_names();
}

struct Axis {
  std::string name;
  std::function<void(Axes&, const Entry&, const std::string& key)> set;
};

/// Every axis, once: reading, --set and [[point]] all go by this table.
const std::vector<Axis>& axis_table() {
  const auto extent = [](std::vector<std::int64_t> Axes::*member) {
    return [member](Axes& axes, const Entry& entry, const std::string& key) {
      axes.*member = values(entry, key, [&](const Item& item) { return integer(item, key, 1, kMaxExtent); });
    };
  };
  const auto named = [](Names Axes::*member, std::string kind, std::function<Names()> known) {
    return [=](Axes& axes, const Entry& entry, const std::string& key) { axes.*member = names(entry, key, kind, known()); };
  };
  const auto fixed = [&](Names Axes::*member, const std::string& kind, const Names& known) { return named(member, kind, [known] { return known; }); };
  static const std::vector<Axis> table = {
      {"op", named(&Axes::op, "op", op_names)},
      {"scope", fixed(&Axes::scope, "scope", {"kernel"})},
      {"cells", named(&Axes::cells, "cell", [] { return names_on("cells"); })},
      {"jacobian", named(&Axes::jacobian, "jacobian", [] { return names_on("jacobian"); })},
      {"solvers",
       [](Axes& axes, const Entry& entry, const std::string& key) {
         axes.solvers = solver_values(entry, key);
         axes.all_solvers = std::get_if<std::string>(&entry.items.front().value) && std::get<std::string>(entry.items.front().value) == "all";
       }},
      {"passes", fixed(&Axes::passes, "pass", {"forward", "backward", "both"})},
      {"grad", fixed(&Axes::grad, "grad", {"all", "output", "squares"})},
      {"storage",
       [](Axes& axes, const Entry& entry, const std::string& key) {
         Names known;
         for (const Storage storage : kStorages) known.emplace_back(to_string(storage));
         axes.storage = values(entry, key, [&](const Item& item) { return *parse_storage(known_word(item, key, "storage", known)); });
       }},
      {"batch", extent(&Axes::batch)},
      {"hidden", extent(&Axes::hidden)},
      {"seq_len", extent(&Axes::seq_len)},
      {"regime", named(&Axes::regime, "regime", regime_names)},
      {"weight_std", [](Axes& axes, const Entry& entry,
                        const std::string& key) { axes.weight_std = values(entry, key, [&](const Item& item) { return std::optional(real(item, key, true)); }); }},
      {"h0", fixed(&Axes::h0, "h0", {"zero", "random"})},
      {"seed",
       [](Axes& axes, const Entry& entry, const std::string& key) {
         axes.seed = values(entry, key, [&](const Item& item) { return static_cast<std::uint64_t>(integer(item, key, 0, std::numeric_limits<std::int64_t>::max())); });
       }},
      {"gates", fixed(&Axes::gates, "gates", {"exact", "approx"})},
      {"iteration_limit",
       [](Axes& axes, const Entry& entry, const std::string& key) {
         axes.iteration_limit = values(entry, key, [&](const Item& item) -> std::optional<int> {
           if (!std::holds_alternative<std::string>(item.value)) return static_cast<int>(integer(item, key, 1, 1'000'000));
           known_word(item, key, "iteration_limit", {"adaptive"});
           return std::nullopt;
         });
       }},
      {"cache", fixed(&Axes::cache, "cache", {"rotating", "hot"})},
  };
  return table;
}

/// Every axis, policy included, then the others that are given.
Names axes_and(const Names& others) {
  Names list;
  for (const Axis& axis : axis_table()) list.push_back(axis.name);
  list.push_back("policy");
  list.insert(list.end(), others.begin(), others.end());
  return list;
}

void set_axis(Axes& axes, const std::string& key, const Entry& entry) {
  if (key.starts_with("policy.")) {
    const std::string policy = key.substr(7);
    known_word({policy, entry.where}, "policy", "policy", policy_keys());
    axes.policy[policy] = values(entry, key, [&](const Item& item) { return integer(item, key, policy == "overlap" || policy == "tiles" ? 0 : 1, 1 << 20); });
    return;
  }
  for (const Axis& axis : axis_table()) {
    if (axis.name == key) axis.set(axes, entry, key);
  }
}

/// Every op has something to be done with.
void check_names(const Axes& axes, const std::string& where) {
  for (const std::string& op : axes.op) {
    if (names_for(axes, find_op(op)).empty()) refuse(where, op == "recurrence" ? "missing cells" : fmt::format("missing {}, which op '{}' needs", find_op(op).axis, op));
  }
}

/// B L D words bytes must be a number: nothing later multiplies with a check. So must the cases be, and few enough for a list.
void check_size(const Axes& axes, const std::string& where) {
  std::size_t cases = 1;
  const auto multiply = [&](const auto&... lists) { ((cases = std::min(cases * lists.size(), kMostCases + 1)), ...); };
  std::vector<std::string> names;  // op and what it is done with, together
  for (const std::string& op : axes.op) names.insert(names.end(), names_for(axes, find_op(op)).begin(), names_for(axes, find_op(op)).end());
  multiply(names, axes.scope, axes.solvers, axes.passes, axes.grad, axes.storage, axes.batch, axes.hidden, axes.seq_len, axes.regime, axes.weight_std, axes.h0, axes.seed,
           axes.gates, axes.iteration_limit, axes.cache);
  for (const auto& [key, list] : axes.policy) multiply(list);
  if (cases > kMostCases) refuse(where, fmt::format("more than {} cases; expected fewer values of some axis", kMostCases));

  const auto largest = [](const std::vector<std::int64_t>& list) { return *std::max_element(list.begin(), list.end()); };
  std::int64_t bytes = kWordsAStep * 8;
  for (const std::int64_t extent : {largest(axes.batch), largest(axes.seq_len), largest(axes.hidden)}) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) refuse(where, "batch x seq_len x hidden overflows 64 bits");
  }
}

Status expectation(const Entry& entry) { return *parse_status(known_word(single(entry, "expect"), "expect", "expect", {"ok", "not_converged", "wrong"})); }

/// A point: one value for the axes it names, the first value of the others, all cells, solvers, passes and storage of the suite.
Grid point_of(const Entries& entries, const Grid& base, const std::string& where) {
  Grid grid = base;
  Axes& axes = grid.axes;
  const auto keep_first = [](auto&... lists) { (lists.resize(1), ...); };
  keep_first(axes.op, axes.scope, axes.grad, axes.batch, axes.hidden, axes.seq_len, axes.regime, axes.weight_std, axes.h0, axes.seed, axes.gates, axes.iteration_limit, axes.cache);
  for (auto& [key, list] : axes.policy) list.resize(1);
  for (const auto& [key, entry] : entries) {
    single(entry, key);
    if (key == "expect") grid.expect = expectation(entry);
    else set_axis(axes, key, entry);
  }
  check_names(axes, where);
  check_size(axes, where);
  return grid;
}

// --- the whole file ----------------------------------------------------------------------------------------------------

Limits limits_of(const TomlNode& node) {
  if (node.kind != TomlNode::Kind::table) refuse(node.where, "limits: expected a table, { case_s = 20 }");
  Limits limits;
  for (std::size_t i = 0; i < node.keys.size(); ++i) {
    const std::string &key = node.keys[i], full = "limits." + key;
    const Entry entry = flatten(node.elements[i], full);
    const double number = real(single(entry, full), full, false);
    if (key == "case_s") limits.case_s = number;
    else if (key == "total_s") limits.total_s = number;
    else if (key == "reference_s") limits.reference_s = number;
    else if (key != "bytes") unknown_key(key, entry.where, "limits", {"case_s", "total_s", "bytes", "reference_s"});
    else if (number >= 0x1p63) refuse(entry.where, fmt::format("limits.bytes: {} overflows 64 bits", number));
    else if (number < 1) refuse(entry.where, fmt::format("limits.bytes: {} is less than a byte", number));
    else limits.bytes = static_cast<std::int64_t>(number);
  }
  return limits;
}

/// One item of --set as TOML would read it; a word that is no number is a string.
decltype(Item::value) value_of(const std::string& text) {
  std::int64_t whole = 0;
  double floating = 0;
  const char *first = text.data(), *last = text.data() + text.size();
  if (const auto [end, error] = std::from_chars(first, last, whole); error == std::errc() && end == last) return whole;
  if (const auto [end, error] = std::from_chars(first, last, floating); error == std::errc() && end == last) return floating;
  return text;
}

Entry entry_of(const Override& override) {
  const auto& [key, text] = override;
  const std::string where = "--set " + key + "=" + text;
  if (text.starts_with('{') || text.starts_with('[')) {
    return flatten(*parse_toml(where, "v = " + text, false).find("v"), key);
  }
  Entry entry{where, {}};
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (begin == end) refuse(where, "expected axis=value,value");
    entry.items.push_back({value_of(text.substr(begin, end - begin)), where});
    begin = end + 1;
  }
  return entry;
}

std::shared_ptr<const std::vector<unsigned char>> read_text(const std::string& file, const std::string& where) {
  if (file.empty()) refuse(where, "regimes text and trained: no text is installed; name one with text_file = \"path\"");
  std::ifstream stream(file, std::ios::binary);
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error) || !stream) refuse(where, fmt::format("text_file '{}' cannot be read", file));
  auto bytes = std::make_shared<std::vector<unsigned char>>(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  if (bytes->empty()) refuse(where, fmt::format("text_file '{}' is empty", file));
  return bytes;
}

}  // namespace

const std::vector<std::string>& names_for(const Axes& axes, const Op& op) { return op.axis == "jacobian" ? axes.jacobian : axes.cells; }

std::string_view to_string(Status status) { return kStatusNames[static_cast<int>(status)]; }

std::optional<Status> parse_status(std::string_view name) {
  const auto found = std::find(std::begin(kStatusNames), std::end(kStatusNames), name);
  if (found == std::end(kStatusNames)) return std::nullopt;
  return static_cast<Status>(found - std::begin(kStatusNames));
}

Override parse_override(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size()) refuse(fmt::format("--set {}", text), "expected axis=value,value");
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::string default_text_file() {
  std::error_code error;
  return std::filesystem::is_regular_file(kInstalledText.file, error) ? kInstalledText.file : "";
}

Suite parse_suite(const std::string& path, std::string text, const std::vector<Override>& overrides) {
  if (text.find('\0') != std::string::npos) refuse(path, "expected a suite in TOML, not a binary file");
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) refuse(path, "the file is empty; expected a suite with title, cells and solvers");
  const TomlNode root = parse_toml(path, text);

  Suite suite;
  suite.path = path;
  suite.name = std::filesystem::path(path).stem().string();
  suite.sha256 = sha256(text);
  suite.text = std::move(text);

  Entries entries = entries_of(root, "suite", axes_and({"title", "baselines", "metrics", "protocol", "text_file", "expect", "limits", "point"}));
  Names set;
  for (const Override& override : overrides) {
    const auto& [key, values] = override;
    const Names known = axes_and({});
    const std::string axis = key.substr(0, key.find('.')), where = "--set " + key + "=" + values;
    if (key == "policy") refuse(where, "expected a key of the policy, policy.threads=32");
    if (!contains(known, axis) || (axis != key && axis != "policy")) refuse(where, fmt::format("unknown axis '{}'{}", key, did_you_mean(key, known)));
    if (contains(set, key)) refuse(where, fmt::format("'{}' is set twice; expected --set {}=v1,v2", key, key));
    set.push_back(key);
    entries[key] = entry_of(override);
  }

  Grid base;
  for (const auto& [key, entry] : entries) {
    if (key == "title") {
      suite.title = word(single(entry, key), key);
    } else if (key == "baselines") {
      suite.baselines = names(entry, key, "solver", solver_names());
    } else if (key == "metrics") {
      const Names named = names(entry, key, "metric", {"error", "newton", "time"});
      suite.metric_error = contains(named, "error"), suite.metric_newton = contains(named, "newton"), suite.metric_time = contains(named, "time");
    } else if (key == "protocol") {
      suite.protocol = known_word(single(entry, key), key, key, {"ours", "paper"});
    } else if (key == "text_file") {
      suite.text_file = word(single(entry, key), key);
    } else if (key == "expect") {
      base.expect = expectation(entry);
    } else {
      set_axis(base.axes, key, entry);
    }
  }
  if (suite.title.empty()) refuse(path, "missing title");
  check_names(base.axes, path);
  if (base.axes.solvers.empty()) refuse(path, "missing solvers");
  check_size(base.axes, path);
  suite.grids.push_back(base);

  if (const TomlNode* limits = root.find("limits")) suite.limits = limits_of(*limits);
  if (const TomlNode* points = root.find("point")) {
    const auto is_table = [](const TomlNode& node) { return node.kind == TomlNode::Kind::table; };
    if (points->kind != TomlNode::Kind::array || points->elements.empty() || !std::all_of(points->elements.begin(), points->elements.end(), is_table))
      refuse(points->where, "point: expected tables, [[point]]");
    for (const TomlNode& node : points->elements) suite.grids.push_back(point_of(entries_of(node, "point", axes_and({"expect"})), base, node.where));
  }

  for (const char* axis : {"cells", "jacobian"}) {
    const bool taken = std::any_of(suite.grids.begin(), suite.grids.end(), [&](const Grid& grid) {
      return std::any_of(grid.axes.op.begin(), grid.axes.op.end(), [&](const std::string& op) { return find_op(op).axis == axis; });
    });
    if (entries.contains(axis) && !taken) refuse(entries[axis].where, fmt::format("{}: no op of this suite takes it", axis));
  }

  const bool needs_text =
      std::any_of(suite.grids.begin(), suite.grids.end(), [](const Grid& grid) { return std::any_of(grid.axes.regime.begin(), grid.axes.regime.end(), reads_text); });
  if (needs_text) {
    // A relative path counts from the suite, so that the suite means the same from everywhere.
    if (suite.text_file.empty()) suite.text_file = default_text_file();
    else suite.text_file = (std::filesystem::path(path).parent_path() / suite.text_file).string();
    suite.text_bytes = read_text(suite.text_file, entries.contains("text_file") ? entries["text_file"].where : path);
  }
  return suite;
}

Suite load_suite(const std::string& path, const std::vector<Override>& overrides) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) refuse(path, "no such file; expected a suite such as suites/quick.toml");
  std::ifstream stream(path, std::ios::binary);
  const std::filesystem::file_type type = std::filesystem::status(path, error).type();
  if ((type != std::filesystem::file_type::regular && type != std::filesystem::file_type::fifo) || !stream)
    refuse(path, "cannot be read; expected a suite in TOML");  // a device may never end
  return parse_suite(path, std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()), overrides);
}

}  // namespace prnn
