// cell_compiler.cpp: see cell_compiler.hpp.
#include "harness/cell_compiler.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>

#include "harness/sha256.hpp"
#include "harness/timer.hpp"
#include "kernels/runtime/embedded.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// As the program itself is built (CMakeLists.txt); sections, so that the linker leaves out what of a source no cell needs.
const Words kFlags = {"-std=c++20", "-ffp-contract=off", "-fopenmp", "-fPIC", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections", "-w", "-Wfatal-errors", "-I."};
constexpr const char *kHeader = "cell_header.hpp", *kCheck = "cell_check.cpp", *kSolvers = "cell_solvers.cpp", *kLanes = "kernels/solvers/cpu/lanes.cpp";

// --- processes -----------------------------------------------------------------------------------------------------------

/// A compiler at work in a folder; stdout and stderr go to a file of it.
class Process {
 public:
  Process(const fs::path& folder, Words words, const std::string& log) : log_(folder / log) {
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    child_ = fork();
    if (child_ < 0) throw std::runtime_error("no process for the compiler");
    if (child_ > 0) return;
    const int out = open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 || chdir(folder.c_str()) != 0) _exit(127);
    setenv("LC_ALL", "C", 1);  // messages are read
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  /// Its exit code once it has ended; -1: a signal ended it.
  int wait() {
    int status = 0;
    while (waitpid(child_, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::string output() const {
    std::ifstream in(log_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  fs::path log_;
  pid_t child_;
};

bool is_program(const fs::path& path) { return access(path.c_str(), X_OK) == 0 && fs::is_regular_file(path); }

bool on_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  std::string folder;
  while (std::getline(folders, folder, ':')) {
    if (is_program(fs::path(folder) / name)) return true;
  }
  return false;
}

/// Its words: $CXX may have several.
Words compiler() {
  const char* chosen = std::getenv("CXX");
  if (chosen && *chosen) {
    std::istringstream text(chosen);
    Words words{std::istream_iterator<std::string>(text), {}};
    if (!words.empty() && words[0].find('/') != std::string::npos) words[0] = fs::absolute(words[0]);  // compilers run in a folder of their own
    if (words.empty() || !(words[0].starts_with('/') ? is_program(words[0]) : on_path(words[0])))
      throw BadInput(fmt::format("--cell: CXX={}: no such program; expected a C++ compiler", chosen));
    return words;
  }
  for (const char* name : {"c++", "g++", "clang++"}) {
    if (on_path(name)) return {name};
  }
  throw BadInput("--cell: there is no C++ compiler here; expected c++, g++ or clang++ on the PATH, or $CXX (apt-get install g++)");
}

// --- the text of a cell --------------------------------------------------------------------------------------------------

/// Names and single characters of a C++ text, without comments and what stands in quotes.
Words tokens(std::string_view text) {
  Words list;
  const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (std::size_t i = 0; i < text.size();) {
    const auto skip_to = [&](std::string_view end, std::size_t from) {
      const std::size_t at = text.find(end, from);
      i = at == text.npos ? text.size() : at + end.size();
    };
    if (text.substr(i, 2) == "//") {
      skip_to("\n", i);
    } else if (text.substr(i, 2) == "/*") {
      skip_to("*/", i + 2);
    } else if (text[i] == '"' || text[i] == '\'') {
      const char quote = text[i++];
      while (i < text.size() && text[i] != quote) i += text[i] == '\\' ? 2 : 1;
      ++i;
    } else if (is_name(text[i])) {
      const std::size_t start = i;
      while (i < text.size() && is_name(text[i])) ++i;
      list.emplace_back(text.substr(start, i - start));
    } else {
      if (!std::isspace(static_cast<unsigned char>(text[i]))) list.emplace_back(1, text[i]);
      ++i;
    }
  }
  return list;
}

/// Whether a text has a function of that name, or calls one.
bool mentions(const Words& words, std::string_view function) {
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == function && words[i + 1] == "(") return true;
  }
  return false;
}

// --- files ---------------------------------------------------------------------------------------------------------------

void put_file(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  if (!out.flush()) throw std::runtime_error(fmt::format("{}: cannot be written (disk full?)", path.string()));
}

/// A folder of this process's own, gone with it.
class Workplace {
 public:
  explicit Workplace(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    std::string name = (folder / "work-XXXXXX").string();
    if (error || !mkdtemp(name.data())) throw BadInput(fmt::format("{}: cannot be written; expected a folder for compiled cells", folder.string()));
    path_ = name;
    for (const SourceFile& source : embedded_sources()) put_file(path_ / source.path, source.text);
  }
  Workplace(const Workplace&) = delete;
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

std::string read_header(const std::string& header) {
  std::error_code error;
  if (!fs::exists(header, error)) throw BadInput(fmt::format("{}: no such file; expected a header with a cell, such as examples/mgu.hpp", header));
  std::ifstream in(header, std::ios::binary);
  if (!fs::is_regular_file(header, error) || !in) throw BadInput(fmt::format("{}: cannot be read; expected a header with a cell", header));
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Every CPU solver and what they stand on, as one unit: most of what a file costs are the headers that all share. Lanes need flags of their own.
std::string solver_unit() {
  std::string text =
      "#include \"kernels/ops/recurrence.cpp\"\n#include \"kernels/ops/chaotic.cpp\"\n#include \"kernels/registry.cpp\"\n#include \"kernels/primitives/policy.cpp\"\n";
  for (const SourceFile& source : embedded_sources()) {
    if (source.path.starts_with("kernels/solvers/cpu/") && source.path.ends_with(".cpp") && source.path != kLanes) text += fmt::format("#include \"{}\"\n", source.path);
  }
  return text;
}

/// Rules, a step in every kind of number, and the shape of a Jacobian that is there.
std::string check_unit(const std::string& type, bool has_jacobian) {
  std::string text = fmt::format("#include \"kernels/cells/rules.hpp\"\n#include \"{}\"\ntemplate struct prnn::CellRules<{}>;\n", kHeader, type);
  if (has_jacobian) {
    text += fmt::format(
        "static_assert(prnn::HasOwnJacobian<{0}, float> && prnn::HasOwnJacobian<{0}, double>, \"rule: jacobian() does not fit; expected template <class T> static void "
        "jacobian(const T (&h)[kState], const T (&a)[kWeights], const T (&u)[kInputs], T (&f)[kState], T (&jacobian)[kState][kState])\");\n",
        type);
  }
  return text + fmt::format("template void prnn::compile_step<{}>();\n#include \"reference/cell_check.cpp\"\n", type);
}

std::string cxx_name(Storage storage) {
  switch (storage) {
    case Storage::f64: return "double";
    case Storage::bf16: return "prnn::Bf16";
    case Storage::f16: return "prnn::F16";
    default: return "float";
  }
}

}  // namespace

std::string cell_type(const std::string& header, std::string_view text) {
  const Words words = tokens(text);
  struct Scope {
    std::string name;
    bool is_struct, has_step;
  };
  std::vector<Scope> scopes;
  Words found;
  std::string named, kind;  // of the scope that the next { opens
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if ((word == "struct" || word == "namespace") && i + 1 < words.size()) {
      kind = word;
      named = words[i + 1];
      for (std::size_t k = i + 2; kind == "namespace" && k + 2 < words.size() && words[k] == ":" && words[k + 1] == ":"; k += 3) named += "::" + words[k + 2];
    } else if (word == ";" || word == ">" || word == "(") {  // of a declaration, a template's parameter or an argument
      kind.clear();
    } else if (word == "{") {
      scopes.push_back({kind.empty() ? "" : named, kind == "struct", false});
      kind.clear();
    } else if (word == "}" && !scopes.empty()) {
      if (scopes.back().has_step) {
        std::string name;
        for (const Scope& scope : scopes) name += scope.name.empty() || scope.name == "{" ? "" : "::" + scope.name;
        found.push_back(name);
      }
      scopes.pop_back();
    } else if (word == "step" && i + 1 < words.size() && words[i + 1] == "(" && !scopes.empty() && scopes.back().is_struct) {
      scopes.back().has_step = true;
    }
  }
  if (found.empty()) throw BadInput(fmt::format("{}: no struct here has a step(); expected a cell, such as examples/mgu.hpp", header));
  if (found.size() > 1) throw BadInput(fmt::format("{}: {} have a step(); expected one cell", header, fmt::join(found, " and ")));
  return found.front();
}

std::string first_error(const std::string& header, const std::string& output) {
  static const std::regex kPlaced("^(.+?):([0-9]+):([0-9]+): +(.*)$"), kError("^(fatal )?error: (.*)$");
  std::istringstream lines(output);
  std::string line, what, where;
  while (std::getline(lines, line)) {
    std::smatch placed, error;
    if (!std::regex_match(line, placed, kPlaced)) continue;
    const std::string said = placed[4];
    const bool is_first_error = what.empty() && std::regex_match(said, error, kError);
    if (is_first_error) what = error[2];
    // Of an error inside a header of ours what is of use is the line that led there, before or after it.
    if (placed[1] == header && (where.empty() || is_first_error)) where = fmt::format("{}:{}:{}", header, placed[2].str(), placed[3].str());
  }
  if (const std::size_t rule = what.find("rule: "); rule != what.npos) {
    what = what.substr(rule + 6);
    if (what.ends_with('"')) what.pop_back();
    return fmt::format("{}: {}", header, what);
  }
  if (what.empty()) what = "the compiler failed";
  return fmt::format("{}: {}", where.empty() ? header : where, what);
}

CompiledCell compile_cell(const std::string& header, const std::vector<Storage>& storages, const fs::path& cache) {
  const double start_s = steady_now_s();
  CompiledCell cell{.object = {}, .wrong_jacobian = {}, .text = read_header(header), .digest = {}, .compiled_s = 0};
  const std::string type = cell_type(header, cell.text);
  const Words program = compiler();
  const fs::path folder = fs::absolute(cache) / "cells";
  const Workplace place(folder);
  // What it includes is looked for among our sources, then beside it. It is included more than once.
  put_file(place.path() / kHeader, fmt::format("#pragma once\n#line 1 \"{}\"\n{}", header, cell.text));
  put_file(place.path() / kCheck, check_unit(type, mentions(tokens(cell.text), "jacobian")));
  put_file(place.path() / kSolvers, solver_unit());

  Words names;
  for (const Storage storage : storages) names.push_back(cxx_name(storage));
  Words flags = kFlags;
  flags.insert(flags.end(), {"-I" + fs::absolute(header).parent_path().string(), "-DPRNN_CELL=" + type, fmt::format("-DPRNN_CELL_HEADER=\"{}\"", kHeader),
                             fmt::format("-DPRNN_CELL_STORAGES={}", fmt::join(names, ","))});
  int number = 0;
  const auto begin = [&](const Words& arguments) {
    Words words = program;
    words.insert(words.end(), flags.begin(), flags.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    return Process(place.path(), words, fmt::format("log{}", number++));
  };
  const auto end = [&](Process& process) {
    if (process.wait() == 0) return process.output();
    const std::string said = process.output();
    throw BadInput(fmt::format("{}\n{}", first_error(header, said), said));
  };

  Process version = begin({"--version"}), preprocessed = begin({"-E", "-P", kCheck});
  std::string facts = end(version);
  cell.digest = sha256(end(preprocessed));
  facts += fmt::format("{}\n{}\n{}\n{}\n", cell.digest, fmt::join(program, " "), type, fmt::join(names, ","));
  for (const std::string& flag : kFlags) facts += flag + "\n";
  for (const SourceFile& source : embedded_sources()) facts += sha256(source.text);
  cell.object = folder / (sha256(facts) + ".so");
  if (fs::exists(cell.object)) return cell;

  Process compiled_check = begin({kCheck, "-o", "check"});
  end(compiled_check);
  Process check(place.path(), {"./check"}, "check.log");
  const int code = check.wait();
  const std::string said = check.output(), first_line = said.substr(0, said.find('\n'));
  if (code == 1) throw BadInput(fmt::format("{}: {}", header, first_line.substr(std::string_view("rule: ").size())));
  if (code == 2) {
    cell.wrong_jacobian = fmt::format("{}: {}", header, first_line);
    return cell;
  }
  if (code != 0) throw BadInput(fmt::format("{}: its step() or jacobian() ends the process that tries it; expected one that stays within its arrays", header));
  const std::string name = first_line.substr(std::string_view("name ").size());
  for (const Op& op : ops()) {
    const std::vector<std::string> taken = op.cells();
    if (std::find(taken.begin(), taken.end(), name) != taken.end()) throw BadInput(fmt::format("{}: name '{}' is that of a cell of the program; expected another", header, name));
  }

  // Three units, as long ones first; the reference waits for numbers, not for its own code.
  Process solvers = begin({"-O2", "-c", kSolvers, "-o", "solvers.o"}), reference = begin({"-O1", "-c", "reference/cell_object.cpp", "-o", "reference.o"}),
          lanes = begin({"-O3", "-fno-tree-pre", "-c", kLanes, "-o", "lanes.o"});
  Process* const units[] = {&solvers, &reference, &lanes};
  std::string failure;
  for (Process* unit : units) {
    try {
      end(*unit);
    } catch (const BadInput& error) {  // once all have ended: their folder goes
      if (failure.empty()) failure = error.what();
    }
  }
  if (!failure.empty()) throw BadInput(failure);
  Process link = begin({"-shared", "-Wl,--gc-sections", "-Wl,--no-undefined", "solvers.o", "reference.o", "lanes.o", "-o", "cell.so"});
  end(link);
  fs::rename(place.path() / "cell.so", cell.object);
  cell.compiled_s = steady_now_s() - start_s;
  return cell;
}

}  // namespace prnn
