// Tests of run --cell: what a header has to be, what a user is told, and that a cell from a header is judged and timed as the program's own.
#include "harness/cell_compiler.hpp"

#include <gtest/gtest.h>
#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/program_test.hpp"
#include "harness/record.hpp"
#include "reference/reference.hpp"
#include "reference/user_cell.hpp"

namespace prnn {
namespace {

namespace fs = std::filesystem;

const fs::path kExample = fs::path(PRNN_SOURCE_DIR) / "examples/mgu.hpp";
/// Objects are named by content: what one test has compiled serves the others, and the next run.
const fs::path kCache = fs::path(PRNN_EXE).parent_path() / "test_cells";

/// The example with one text in it replaced.
std::string example_with(const std::string& text, const std::string& by) {
  std::string all = content(kExample);
  const std::size_t at = all.find(text);
  EXPECT_NE(at, all.npos) << text;
  return all.replace(at, text.size(), by);
}

std::string refusal_of(const std::string& header, const std::string& text) {
  try {
    return "not refused: " + cell_type(header, text);
  } catch (const BadInput& error) {
    return error.what();
  }
}

TEST(CellType, IsTheStructWithAStepInItsNamespaces) {
  EXPECT_EQ(cell_type("x.hpp", "struct A { void step(int); };"), "::A");
  EXPECT_EQ(cell_type("x.hpp", "namespace a::b { namespace c { struct A { template <class S> void step(S); }; } }"), "::a::b::c::A");
  EXPECT_EQ(cell_type("x.hpp", "struct B { int x; void f() { step(1); } };\nstruct A : B { void step(); };"), "::A") << "a call in a function is no step()";
  EXPECT_EQ(cell_type("x.hpp", "// struct B { step( }\n/* struct C { step( */ const char* s = \"struct D { step(\"; char c = '\"'; struct A { void step(); };"), "::A");
  EXPECT_EQ(cell_type("x.hpp",
                      "struct F;\nint x{step(1)};\ntemplate <struct G>\nint y{step(1)};\nstruct F make() { step(1); }\nnamespace n = std;\nvoid f(struct G g) {}\nstruct A final { "
                      "void step(); };"),
            "::A");
  EXPECT_EQ(cell_type("x.hpp", "struct A { struct Inner { int x; }; void step(); };"), "::A");
  EXPECT_EQ(cell_type("x.hpp", "namespace { struct A { void step(); }; }"), "::A");
}

TEST(CellType, IsOne) {
  EXPECT_EQ(refusal_of("x.hpp", "struct A { void stop(); };"), "x.hpp: no struct here has a step(); expected a cell, such as examples/mgu.hpp");
  EXPECT_EQ(refusal_of("x.hpp", "void step();"), refusal_of("x.hpp", ""));
  EXPECT_EQ(refusal_of("x.hpp", "struct A { void step(); }; struct B { void step(); };"), "x.hpp: ::A and ::B have a step(); expected one cell");
}

TEST(FirstError, NamesTheUsersLine) {
  EXPECT_EQ(first_error("a/x.hpp", "In file included from y:1:\na/x.hpp:3:7: error: 'q' was not declared\n  3 | q\na/x.hpp:9:1: error: later\n"),
            "a/x.hpp:3:7: 'q' was not declared");
  EXPECT_EQ(first_error("x.hpp", "x.hpp:1:10: fatal error: y.h: No such file\n"), "x.hpp:1:10: y.h: No such file");
  EXPECT_EQ(
      first_error("x.hpp",
                  "kernels/cells/cell.hpp: In instantiation of 'f':\nx.hpp:12:3:   required from here\nkernels/cells/cell.hpp:5:6: error: no operator\nx.hpp:13:1: note: n\n"),
      "x.hpp:12:3: no operator")
      << "an error of ours is where the user's line led to it";
  EXPECT_EQ(first_error("x.hpp", "x.hpp:12:3:   required from here\nx.hpp:5:6: error: no operator\n"), "x.hpp:5:6: no operator");
  EXPECT_EQ(first_error("x.hpp", "kernels/cells/cell.hpp:5:6: error: no operator\n"), "x.hpp: no operator");
  EXPECT_EQ(first_error("x.hpp", "killed\n"), "x.hpp: the compiler failed");
}

TEST(FirstError, SaysARuleAlone) {
  EXPECT_EQ(first_error("x.hpp", "k.hpp:5:6: error: static assertion failed: rule: kState is out of range; expected 1\n"), "x.hpp: kState is out of range; expected 1");
  EXPECT_EQ(first_error("x.hpp", "k.hpp:5:6: error: static_assert failed due to requirement 'x' \"rule: name is missing\"\n"), "x.hpp: name is missing") << "clang";
}

class UserCell : public Program {
 protected:
  void SetUp() override {
    Program::SetUp();
    fs::create_directories(kCache / "cells");
    fs::create_directories(folder_ / "cache");
    fs::create_directory_symlink(kCache / "cells", folder_ / "cache/cells");
  }
  /// The program's answer to the example with a text replaced: its exit code and first line.
  void expect_answer(const std::string& text, const std::string& by, int code, const std::string& start, const std::string& part = "") {
    put("x.hpp", example_with(text, by));
    const Ended e = prnn(std::string(kVerify) + "--cell x.hpp");
    const std::string line = e.err.substr(0, e.err.find('\n'));
    EXPECT_EQ(e.code, code) << by << ": " << e.err;
    EXPECT_TRUE(line.starts_with(start) && line.find(part) != line.npos) << by << ": " << e.err;
    EXPECT_FALSE(fs::exists(folder_ / "r.jsonl")) << by;
  }
};

TEST_F(UserCell, ThatCannotBeReadIsRefused) {
  const std::string run = std::string(kVerify) + "--cell ";
  refused(run + "none.hpp", "none.hpp: no such file; expected a header");
  refused(run + "cache", "cache: cannot be read; expected a header");
  put("empty.hpp", "");
  refused(run + "empty.hpp", "empty.hpp: no struct here has a step()");
}

TEST_F(UserCell, RunsOnTheCpuAlone) {
  const std::string cell = " --cell '" + kExample.string() + "'";
  for (const char* device : {"cuda", "emulated"}) refused("run small.toml --out r.jsonl --device " + std::string(device) + cell, "--cell ", "expected --device cpu\n");
  put("scan.toml", "title = \"t\"\nop = \"reduction\"\njacobian = \"diag\"\nsolvers = [\"seq_fused\"]\n");
  refused("run scan.toml --out r.jsonl --device cpu" + cell, "--cell ", "scan.toml has no cells to replace");
}

TEST_F(UserCell, NeedsACompiler) {
  const std::string run = std::string(kVerify) + "--cell '" + kExample.string() + "'";
  const Ended none = prnn(run, "unset CXX; PATH=/nowhere");
  EXPECT_EQ(none.code, 64);
  EXPECT_EQ(none.err, "--cell: there is no C++ compiler here; expected c++, g++ or clang++ on the PATH, or $CXX (apt-get install g++)\n");
  const Ended other = prnn(run, "CXX='no-such-compiler -x'");
  EXPECT_EQ(other.code, 64);
  EXPECT_EQ(other.err, "--cell: CXX=no-such-compiler -x: no such program; expected a C++ compiler\n");
}

TEST_F(UserCell, ThatDoesNotCompileIsTheCompilersWord) {
  expect_answer("sigmoid(a[0]", "sgmoid(a[0]", 64, "x.hpp:17:", "sgmoid");
  expect_answer("const S c =", "if (f > f) return;\n    const S c =", 64, "x.hpp:18:");
  EXPECT_NE(get("stderr").find("error: "), std::string::npos) << "the compiler's message is below";
  expect_answer("#pragma once", "#include \"not_here.hpp\"", 64, "x.hpp:4:", "not_here.hpp");
}

TEST_F(UserCell, ThatBreaksARuleOfItsShapeIsToldWhich) {
  expect_answer("* name = ", "* nome = ", 64, "x.hpp: name is missing; expected");
  expect_answer("kState = 1", "kState = 0", 64, "x.hpp: kState is out of range; expected 1 to 4");
  expect_answer(", kGates = 2", "", 64, "x.hpp: a size is missing; expected");
  expect_answer("template <class S, class P>", "using S = double;\n  template <class P>", 64, "x.hpp: step() does not fit; expected template <class S, class P>");
  expect_answer(".input = 0", ".input = 2", 64, "x.hpp: memory.input is no input; expected -1, or 0 to kInputs - 1");
  expect_answer("template <class S", "static void jacobian(int);\n  template <class S", 64, "x.hpp: jacobian() does not fit; expected");
}

TEST_F(UserCell, ThatBreaksARuleOnceItRunsIsToldWhich) {
  expect_answer("kGates = 2", "kGates = 1", 64, "x.hpp: kGates is 1; expected 2");
  expect_answer("\"mgu\"", "\"gru_diag\"", 64, "x.hpp: name 'gru_diag' is that of a cell of the program");
  expect_answer("\"mgu\"", "\"a b\"", 64, "x.hpp: name 'a b' does not fit; expected");
  expect_answer("a[0] * h[0] + u[0]", "a[0] * h[0]", 64, "x.hpp: h_next[0] does not depend on u[0]");
  expect_answer("h_next[0] =", "*(volatile int*)0 = 1;\n    h_next[0] =", 64, "x.hpp: its step() or jacobian() ends the process");
}

/// jacobian() of the example, with this for its one entry.
std::string with_jacobian(const std::string& entry) {
  return "template <class T>\n  static void jacobian(const T (&h)[1], const T (&a)[2], const T (&u)[2], T (&f)[1], T (&jacobian)[1][1]) {\n"
         "    const T z = sigmoid(a[0] * h[0] + u[0]), c = tanh_gate(a[1] * (z * h[0]) + u[1]), dz = z * (1 - z) * a[0];\n"
         "    f[0] = (1 - z) * h[0] + z * c;\n    jacobian[0][0] = " +
         entry + ";\n  }\n  template <class S";
}

TEST_F(UserCell, ThatHasAWrongJacobianExitsWith2) {
  expect_answer("template <class S", with_jacobian("1 - z + (c - h[0]) * dz + z * (1 - c * c) * a[1] * z"), 2, "x.hpp: jacobian() of mgu in float gives J[0][0] = ", "; expected ");
}

/// Rows of a record, its head first.
std::vector<Json> rows_of(const std::string& text) {
  std::istringstream lines(text);
  std::vector<Json> rows;
  for (std::string line; std::getline(lines, line);) rows.push_back(Json::parse(line));
  return rows;
}

TEST_F(UserCell, OfTheTutorialIsVerifiedByEverySolver) {
  put("all.toml",
      "title = \"t\"\ncells = [\"gru_diag\", \"elman_diag\"]\nsolvers = \"all\"\nh0 = \"random\"\nhidden = 5\nseq_len = 40\npasses = [\"forward\", \"backward\"]\n[[point]]\ncells "
      "= \"lstm_cifg_diag\"\nseq_len = 7\n");
  const std::string text = example_with("template <class S", with_jacobian("1 - z + (c - h[0]) * dz + z * (1 - c * c) * a[1] * (z + h[0] * dz)"));
  put("x.hpp", text);
  const Ended e = prnn("verify all.toml --device cpu --no-report --out r.jsonl --cell x.hpp");
  ASSERT_EQ(e.code, 0) << e.out << e.err;
  const std::vector<Json> rows = rows_of(get("r.jsonl"));
  EXPECT_EQ(rows.at(0)["cell"]["path"], "x.hpp");
  EXPECT_EQ(rows[0]["cell"]["text"], text);
  std::set<std::string> solvers;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i]["cell"], "mgu");
    if (rows[i]["status"] == "skipped") continue;
    EXPECT_EQ(rows[i]["status"], "ok") << rows[i].dump();
    const std::string pass = rows[i]["pass"], field = pass == "forward" ? "error" : "error_du";
    EXPECT_EQ(rows[i][field]["verified_prefix"], rows[i]["seq_len"]) << "against 50 digits";
    solvers.insert(pass + " " + rows[i]["solver"].get<std::string>());
  }
  for (const char* solver : {"forward seq_stepwise", "forward seq_fused", "forward newton_fused", "forward shooting", "forward auto", "backward seq_stepwise", "backward seq_fused",
                             "backward reduction", "backward shooting", "backward auto"})
    EXPECT_TRUE(solvers.contains(solver)) << solver;

  // The same again is in the cache; another text is another cell, to a record and to the truths that are kept.
  const Ended again = prnn("verify all.toml --device cpu --no-report --out again.jsonl --cell x.hpp");
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.err.find("compiled in"), std::string::npos) << again.err;
  put("x.hpp", text + "// changed\n");
  refused("verify all.toml --device cpu --no-report --out r.jsonl --resume --cell x.hpp", "--resume: r.jsonl is of another cell (");
  refused("verify all.toml --device cpu --no-report --out r.jsonl --resume", "--resume: r.jsonl is of another cell (");
}

TEST(LoadedCell, ThatIsACopyHasTheBitsOfTheOriginal) {
  const fs::path folder = fs::temp_directory_path() / ("prnn-cell-" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::ofstream(folder / "copy.hpp")
      << "#include \"kernels/cells/lstm_cifg_diag.hpp\"\nnamespace mine {\nstruct Copy : prnn::LstmCifgDiag {\n  static constexpr const char* name = \"copy\";\n"
         "  template <class S, class P>\n  static constexpr void step(const S (&h)[2], const P (&a)[5], const P (&u)[3], S (&next)[2]) {\n"
         "    prnn::LstmCifgDiag::step(h, a, u, next);\n  }\n};\n}\n";
  const CompiledCell compiled = compile_cell((folder / "copy.hpp").string(), {Storage::f32}, kCache);
  fs::remove_all(folder);
  ASSERT_EQ(load_cell(compiled.object, compiled.digest), "copy");
  EXPECT_EQ(loaded_digest("copy"), compiled.digest);
  EXPECT_EQ(loaded_digest("lstm_cifg_diag"), "");

  Problem original;
  original.cell = "lstm_cifg_diag", original.h0 = "random", original.seq_len = 50, original.hidden = 3, original.batch = 2, original.pass = "both";
  Problem copy = original;
  copy.cell = "copy";
  const ChannelData data = draw_channel(copy, 1, 2), same_data = draw_channel(original, 1, 2);
  EXPECT_EQ(data.weights, same_data.weights);
  EXPECT_EQ(data.inputs, same_data.inputs);
  EXPECT_EQ(data.initial, same_data.initial);
  const auto same = [](const std::vector<DoubleDouble>& x, const std::vector<DoubleDouble>& y) {
    return x.size() == y.size() && !x.empty() &&
           std::equal(x.begin(), x.end(), y.begin(), [](const DoubleDouble& p, const DoubleDouble& q) { return p.high == q.high && p.low == q.low; });
  };
  const Truth truth = true_states(data), same_truth = true_states(same_data);
  EXPECT_TRUE(same(truth.states, same_truth.states));
  EXPECT_EQ(truth.difference, same_truth.difference);
  EXPECT_EQ(forward_bound(data, truth, Storage::f32), forward_bound(same_data, same_truth, Storage::f32));
  const Dynamics dynamic = dynamics(data, truth), same_dynamic = dynamics(same_data, same_truth);
  EXPECT_EQ(dynamic.lyapunov, same_dynamic.lyapunov);
  EXPECT_EQ(dynamic.jacobian_max, same_dynamic.jacobian_max);
  EXPECT_TRUE(same(last_iterate(data, 2, 20, 50), last_iterate(same_data, 2, 20, 50)));
  std::vector<double> states;
  for (const DoubleDouble& h : truth.states) states.push_back(double(float(h.high)));
  for (const std::vector<double>& at : {states, std::vector<double>()}) {
    const Gradients g = true_gradients(channel_at(copy, 1, 2, at)), h = true_gradients(channel_at(original, 1, 2, at));
    EXPECT_TRUE(same(g.inputs, h.inputs) && same(g.weights, h.weights) && same(g.initial, h.initial));
    EXPECT_EQ(g.difference.inputs, h.difference.inputs);
  }
  const GradientBounds bounds = gradient_bounds(channel_at(copy, 1, 2, states), Storage::f32), same_bounds = gradient_bounds(channel_at(original, 1, 2, states), Storage::f32);
  EXPECT_EQ(bounds.inputs, same_bounds.inputs);
  EXPECT_EQ(bounds.weights, same_bounds.weights);

  std::unique_ptr<Machine> cpu;
  for (const MachineEntry& entry : machines()) {
    if (entry.device == "cpu") cpu = entry.open();
  }
  const Op& op = find_op("recurrence");
  EXPECT_EQ(op.flops(copy), op.flops(original));
  for (const char* name : {"seq_stepwise", "seq_fused", "newton_fused", "shooting", "auto"}) {
    std::vector<std::vector<char>> outputs[2];
    for (const Problem& p : {copy, original}) {
      const Solver* const solver = find_solver(name, "cpu", p);
      ASSERT_TRUE(solver) << name << " " << p.cell;
      ASSERT_EQ(solver->why_not(p), "");
      Tensors tensors;
      std::vector<Buffer> buffers;
      for (const TensorSpec& spec : op.tensors(p)) {
        buffers.emplace_back(*cpu, spec.bytes());
        tensors.items.push_back({spec, buffers.back().data()});
      }
      op.draw(p, *cpu, tensors);
      const std::unique_ptr<prnn::Run> run = solver->prepare(p, *cpu);
      run->launch(tensors, nullptr);
      const LocalRatios ratios = op.local_ratios(p, *cpu, tensors);
      EXPECT_LE(ratios.worst(), kErrorFactor) << name << " " << p.cell;
      for (const Tensors::Item& item : tensors.items) {
        const char* const bytes = static_cast<const char*>(item.data);
        outputs[p.cell == "copy" ? 0 : 1].emplace_back(bytes, bytes + item.spec.bytes());
      }
    }
    EXPECT_EQ(outputs[0], outputs[1]) << name;
  }
  EXPECT_EQ(find_solver("seq_fused", "emulated", copy), nullptr);
  Problem chaotic = copy;
  chaotic.regime = "chaotic";
  Problem chaotic_original = original;
  chaotic_original.regime = "chaotic";
  EXPECT_EQ(draw_channel(chaotic, 0, 0).weights, draw_channel(chaotic_original, 0, 0).weights);
}

}  // namespace
}  // namespace prnn
