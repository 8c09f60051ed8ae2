// toml_file.hpp: a TOML text as a tree of our own, each node with its place, and what a key of a suite or policy takes. toml++ is seen in toml_file.cpp alone.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace prnn {

/// Throws BadInput "where: what", in one line whatever the values hold that it shows.
[[noreturn]] void refuse(const std::string& where, const std::string& what);

struct TomlItem {
  struct Other {
    std::string kind;  // of a value that no key takes: "a date or time", "an array", "a table"
  };
  std::variant<std::int64_t, double, bool, std::string, Other> value;
  std::string where;  // "path:line"
};

/// A scalar, an array of elements, or a table whose keys (sorted) have the elements for values.
struct TomlNode : TomlItem {
  enum class Kind { scalar, array, table } kind = Kind::scalar;
  std::vector<std::string> keys;
  std::vector<TomlNode> elements;
  const TomlNode* find(const std::string& key) const;  // null: none
};

/// The table of a whole text. path stands in messages, with the line unless with_lines is false. Throws BadInput.
TomlNode parse_toml(const std::string& path, const std::string& text, bool with_lines = true);

/// A value as a message shows it.
std::string shown(const TomlItem&);

// Each throws BadInput where the item is something else; key is for the message.
std::string word(const TomlItem&, const std::string& key);
/// A string that is one of known; kind names it in the message ("cell").
std::string name_of(const TomlItem&, const std::string& key, const std::string& kind, const std::vector<std::string>& known);
std::int64_t integer(const TomlItem&, const std::string& key, std::int64_t least, std::int64_t most);
/// Finite, above 0, or 0 too.
double real(const TomlItem&, const std::string& key, bool zero_too);

/// Refuses a key that is none of known; in: "suite", "point", ...
[[noreturn]] void unknown_key(const std::string& key, const std::string& where, const std::string& in, std::vector<std::string> known);

}  // namespace prnn
