// suite.cpp: TOML -> Suite. The file is first flattened to entries (key, place, list of scalars), so that the command line's --set and the
// file pass the same checks; toml++ is seen here alone.
#include "harness/suite.hpp"

#define TOML_HEADER_ONLY 1
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <variant>

#include "harness/nearest.hpp"
#include "harness/sha256.hpp"

namespace prnn {
namespace {

using Names = std::vector<std::string>;

constexpr std::string_view kStatusNames[] = {"ok", "skipped", "wrong", "not_converged", "error", "timeout"};  // in the order of Status

/// Words of the contract that later issues bring: refused by name, never taken for a typing error.
struct Later {
  std::string_view key, word;  // key "": the word is itself a key
};
constexpr Later kLater[] = {{"op", "reduction"}, {"scope", "layer"}, {"regime", "trained"}, {"policy", "unroll"}, {"", "jacobian"}};
bool is_later(std::string_view key, std::string_view word) {
  return std::any_of(std::begin(kLater), std::end(kLater), [&](const Later& later) { return later.key == key && later.word == word; });
}

const Names kPolicyKeys = {"threads",  "steps_a_thread", "steps_a_tile",  "channels_a_block", "prefetch",
                           "segments", "overlap",        "blocks_a_team", "vector_bytes",     "tiles"};  // those that some solver reads
constexpr std::int64_t kMaxExtent = 0xffffffff;  // the counters of the draws have 32 bits an axis: beyond, values would repeat
constexpr std::int64_t kWordsAStep = 64;         // more numbers than any cell reads, writes and keeps in workspace for a step of a channel

[[noreturn]] void refuse(const std::string& where, const std::string& what) { throw BadInput(where + ": " + what); }

// --- flattening --------------------------------------------------------------------------------------------------------

struct Other {
  std::string kind;  // of a value that no key takes: "a date", "an array", ...
};
using Value = std::variant<std::int64_t, double, bool, std::string, Other>;

struct Item {
  Value value;
  std::string where;
};
struct Entry {
  std::string where;
  std::vector<Item> items;
};
using Entries = std::map<std::string, Entry>;

std::string shown(const Value& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_same_v<T, std::string>) return "'" + v + "'";
        else if constexpr (std::is_same_v<T, Other>) return v.kind;
        else return fmt::format("{}", v);
      },
      value);
}

/// "--set ..." stands for itself; a node of the file is path:line.
struct Place {
  std::string path;
  bool has_lines = true;
  std::string of(const toml::node& node) const { return has_lines ? fmt::format("{}:{}", path, node.source().begin.line) : path; }
};

Item scalar(const toml::node& node, const Place& place) {
  const std::string where = place.of(node);
  if (const auto* v = node.as_integer()) return {v->get(), where};
  if (const auto* v = node.as_floating_point()) return {v->get(), where};
  if (const auto* v = node.as_boolean()) return {v->get(), where};
  if (const auto* v = node.as_string()) return {v->get(), where};
  return {Other{node.is_table() ? "a table" : node.is_array() ? "an array" : "a date or time"}, where};
}

/// { pow2 = [a, b] } -> 2^a, ..., 2^b, both ends included.
std::vector<Item> powers_of_two(const toml::table& table, const std::string& key, const std::string& where) {
  for (const auto& [name, node] : table) {
    if (name.str() != "pow2") refuse(where, fmt::format("unknown key '{}' in {}{}", name.str(), key, did_you_mean(name.str(), {"pow2"})));
  }
  const toml::array* ends = table["pow2"].as_array();
  if (!ends || ends->size() != 2 || !(*ends)[0].is_integer() || !(*ends)[1].is_integer()) refuse(where, key + ": expected { pow2 = [first, last] } with two integers");
  const std::int64_t first = (*ends)[0].as_integer()->get(), last = (*ends)[1].as_integer()->get();
  if (first < 0 || last > 62) refuse(where, fmt::format("{}: pow2 = [{}, {}] is outside 0 .. 62", key, first, last));
  if (first > last) refuse(where, fmt::format("{}: pow2 = [{}, {}] is reversed; expected first <= last", key, first, last));
  std::vector<Item> items;
  for (std::int64_t power = first; power <= last; ++power) items.push_back({std::int64_t{1} << power, where});
  return items;
}

Entry flatten(const toml::node& node, const std::string& key, const Place& place) {
  Entry entry{place.of(node), {}};
  if (const toml::array* array = node.as_array()) {
    for (const toml::node& element : *array) entry.items.push_back(scalar(element, place));
  } else if (const toml::table* table = node.as_table()) {
    entry.items = powers_of_two(*table, key, entry.where);
  } else {
    entry.items.push_back(scalar(node, place));
  }
  if (entry.items.empty() && key != "baselines") refuse(entry.where, key + ": expected at least one value");
  return entry;
}

bool contains(const Names& names, std::string_view name) { return std::find(names.begin(), names.end(), name) != names.end(); }

[[noreturn]] void unknown_key(const std::string& key, const std::string& where, const std::string& in, Names known) {
  if (is_later("", key)) refuse(where, fmt::format("key '{}' is not part of this build yet", key));
  std::sort(known.begin(), known.end());
  refuse(where, fmt::format("unknown key '{}' in {}{}", key, in, did_you_mean(key, known)));
}

/// Entries of a table, all of whose keys must be known; those of `policy = { ... }` as "policy.NAME". limits and point are left to the caller.
Entries entries_of(const toml::table& table, const Place& place, const std::string& in, const Names& known) {
  Entries entries;
  for (const auto& [name, node] : table) {
    const std::string key(name.str());
    if (!contains(known, key)) unknown_key(key, place.of(node), in, known);
    if (key == "limits" || key == "point") continue;
    if (key != "policy") {
      entries[key] = flatten(node, key, place);
      continue;
    }
    if (!node.is_table()) refuse(place.of(node), "policy: expected a table, { threads = [32] }");
    for (const auto& [policy, values] : *node.as_table()) {
      const std::string full = "policy." + std::string(policy.str());
      entries[full] = flatten(values, full, place);
    }
  }
  return entries;
}

// --- one value ---------------------------------------------------------------------------------------------------------

std::string word(const Item& item, const std::string& key) {
  if (const auto* text = std::get_if<std::string>(&item.value)) return *text;
  refuse(item.where, fmt::format("{}: expected a string, not {}", key, shown(item.value)));
}

/// A string that is one of known; kind names it in the message ("cell").
std::string name_of(const Item& item, const std::string& key, const std::string& kind, const Names& known) {
  const std::string text = word(item, key);
  if (contains(known, text)) return text;
  if (is_later(key, text)) refuse(item.where, fmt::format("{} '{}' is not part of this build yet", kind, text));
  refuse(item.where, fmt::format("unknown {} '{}'{}", kind, text, did_you_mean(text, known)));
}

std::int64_t integer(const Item& item, const std::string& key, std::int64_t least, std::int64_t most) {
  const auto* number = std::get_if<std::int64_t>(&item.value);
  if (!number) refuse(item.where, fmt::format("{}: expected an integer, not {}", key, shown(item.value)));
  if (*number < least || *number > most) refuse(item.where, fmt::format("{}: {} is outside {} .. {}", key, *number, least, most));
  return *number;
}

double real(const Item& item, const std::string& key, bool zero_too) {
  double number = 0;
  if (const auto* whole = std::get_if<std::int64_t>(&item.value)) number = static_cast<double>(*whole);
  else if (const auto* floating = std::get_if<double>(&item.value)) number = *floating;
  else refuse(item.where, fmt::format("{}: expected a number, not {}", key, shown(item.value)));
  if (!std::isfinite(number) || number < 0 || (number == 0 && !zero_too))
    refuse(item.where, fmt::format("{}: expected a finite number {} 0, not {}", key, zero_too ? ">=" : ">", number));
  return number;
}

template <class Convert>
auto values(const Entry& entry, const std::string& key, Convert convert) {
  std::vector<std::decay_t<decltype(convert(entry.items.front()))>> list;
  for (const Item& item : entry.items) {
    auto value = convert(item);
    if (std::find(list.begin(), list.end(), value) != list.end()) refuse(item.where, fmt::format("{}: duplicate value {}", key, shown(item.value)));
    list.push_back(std::move(value));
  }
  return list;
}

Names names(const Entry& entry, const std::string& key, const std::string& kind, const Names& known) {
  return values(entry, key, [&](const Item& item) { return name_of(item, key, kind, known); });
}

const Item& single(const Entry& entry, const std::string& key) {
  if (entry.items.size() != 1) refuse(entry.where, fmt::format("{}: expected one value, not {}", key, entry.items.size()));
  return entry.items.front();
}

// --- axes --------------------------------------------------------------------------------------------------------------

Names op_names() {
  Names list;
  for (const Op& op : ops()) list.push_back(op.name);
  return list;
}

Names cell_names() {
  Names list;
  for (const Op& op : ops()) {
    for (const std::string& cell : op.cells()) list.push_back(cell);
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
      {"cells", named(&Axes::cells, "cell", cell_names)},
      {"solvers", [](Axes& axes, const Entry& entry, const std::string& key) { axes.solvers = solver_values(entry, key); }},
      {"passes", fixed(&Axes::passes, "pass", {"forward", "backward", "both"})},
      {"grad", fixed(&Axes::grad, "grad", {"all", "output", "squares"})},
      {"storage",
       [](Axes& axes, const Entry& entry, const std::string& key) {
         Names known;
         for (const Storage storage : kStorages) known.emplace_back(to_string(storage));
         axes.storage = values(entry, key, [&](const Item& item) { return *parse_storage(name_of(item, key, "storage", known)); });
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
           name_of(item, key, "iteration_limit", {"adaptive"});
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
    name_of({policy, entry.where}, "policy", "policy", kPolicyKeys);
    axes.policy[policy] = values(entry, key, [&](const Item& item) { return integer(item, key, policy == "overlap" || policy == "tiles" ? 0 : 1, 1 << 20); });
    return;
  }
  for (const Axis& axis : axis_table()) {
    if (axis.name == key) axis.set(axes, entry, key);
  }
}

/// B L D words bytes must be a number: nothing later multiplies with a check.
void check_size(const Axes& axes, const std::string& where) {
  const auto largest = [](const std::vector<std::int64_t>& list) { return *std::max_element(list.begin(), list.end()); };
  std::int64_t bytes = kWordsAStep * 8;
  for (const std::int64_t extent : {largest(axes.batch), largest(axes.seq_len), largest(axes.hidden)}) {
    if (__builtin_mul_overflow(bytes, extent, &bytes)) refuse(where, "batch x seq_len x hidden overflows 64 bits");
  }
}

Status expectation(const Entry& entry) { return *parse_status(name_of(single(entry, "expect"), "expect", "expect", {"ok", "not_converged", "wrong"})); }

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
  check_size(axes, where);
  return grid;
}

// --- the whole file ----------------------------------------------------------------------------------------------------

Limits limits_of(const toml::node& node, const Place& place) {
  if (!node.is_table()) refuse(place.of(node), "limits: expected a table, { case_s = 20 }");
  Limits limits;
  for (const auto& [name, value] : *node.as_table()) {
    const std::string key(name.str()), full = "limits." + key;
    const Entry entry = flatten(value, full, place);
    const double number = real(single(entry, full), full, false);
    if (key == "case_s") limits.case_s = number;
    else if (key == "total_s") limits.total_s = number;
    else if (key == "reference_s") limits.reference_s = number;
    else if (key != "bytes") unknown_key(key, entry.where, "limits", {"case_s", "total_s", "bytes", "reference_s"});
    else if (number >= 0x1p63) refuse(entry.where, fmt::format("limits.bytes: {} overflows 64 bits", number));
    else limits.bytes = static_cast<std::int64_t>(number);
  }
  return limits;
}

/// One item of --set as TOML would read it; a word that is no number is a string.
Value value_of(const std::string& text) {
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
    try {
      return flatten(*toml::parse("v = " + text)["v"].node(), key, {where, false});
    } catch (const toml::parse_error& error) {
      refuse(where, std::string(error.description()));
    }
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
  if (file.empty()) refuse(where, "regime text: no text is installed; name one with text_file = \"path\"");
  std::ifstream stream(file, std::ios::binary);
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error) || !stream) refuse(where, fmt::format("text_file '{}' cannot be read", file));
  auto bytes = std::make_shared<std::vector<unsigned char>>(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  if (bytes->empty()) refuse(where, fmt::format("text_file '{}' is empty", file));
  return bytes;
}

}  // namespace

std::string_view to_string(Status status) { return kStatusNames[static_cast<int>(status)]; }

std::optional<Status> parse_status(std::string_view name) {
  const auto found = std::find(std::begin(kStatusNames), std::end(kStatusNames), name);
  if (found == std::end(kStatusNames)) return std::nullopt;
  return static_cast<Status>(found - std::begin(kStatusNames));
}

Override parse_override(std::string_view text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size()) throw BadInput(fmt::format("--set {}: expected axis=value,value", text));
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

std::string default_text_file() {
  std::error_code error;
  return std::filesystem::is_regular_file(kInstalledText.file, error) ? kInstalledText.file : "";
}

Suite parse_suite(const std::string& path, std::string text, const std::vector<Override>& overrides) {
  if (text.find('\0') != std::string::npos) refuse(path, "expected a suite in TOML, not a binary file");
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) refuse(path, "the file is empty; expected a suite with title, cells and solvers");
  toml::table root;
  try {
    root = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    std::string what(error.description());
    std::replace(what.begin(), what.end(), '\n', ' ');
    refuse(fmt::format("{}:{}", path, error.source().begin.line), "TOML: " + what);
  }

  Suite suite;
  suite.path = path;
  suite.name = std::filesystem::path(path).stem().string();
  suite.sha256 = sha256(text);
  suite.text = std::move(text);

  const Place place{path};
  Entries entries = entries_of(root, place, "suite", axes_and({"title", "baselines", "metrics", "protocol", "text_file", "expect", "limits", "point"}));
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
      suite.protocol = name_of(single(entry, key), key, key, {"ours", "paper"});
    } else if (key == "text_file") {
      suite.text_file = word(single(entry, key), key);
    } else if (key == "expect") {
      base.expect = expectation(entry);
    } else {
      set_axis(base.axes, key, entry);
    }
  }
  if (suite.title.empty()) refuse(path, "missing title");
  if (base.axes.cells.empty()) refuse(path, "missing cells");
  if (base.axes.solvers.empty()) refuse(path, "missing solvers");
  check_size(base.axes, path);
  suite.grids.push_back(base);

  if (const toml::node* limits = root.get("limits")) suite.limits = limits_of(*limits, place);
  if (const toml::node* points = root.get("point")) {
    const toml::array* array = points->as_array();
    if (!array || array->empty() || !array->is_homogeneous<toml::table>()) refuse(place.of(*points), "point: expected tables, [[point]]");
    for (const toml::node& node : *array) suite.grids.push_back(point_of(entries_of(*node.as_table(), place, "point", axes_and({"expect"})), base, place.of(node)));
  }

  const bool needs_text = std::any_of(suite.grids.begin(), suite.grids.end(), [](const Grid& grid) { return contains(grid.axes.regime, "text"); });
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
  if (std::filesystem::is_directory(path, error) || !stream) refuse(path, "cannot be read; expected a suite in TOML");
  return parse_suite(path, std::string(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()), overrides);
}

}  // namespace prnn
