// scan_chained.cu: the affine scan of every channel in one pass over memory, by tiles that are all under way at once (op reduction).
//   u [B, L, K, K + 1, D] (rows of J, then r), h0 [B, K, D] -> h [B, L, K, D], last [B, K, D]
// Merrill and Garland 2016, "Single-pass parallel prefix scan with decoupled look-back", with a fixed order of compositions, so that results are bitwise the
// same on every run, and with channels that lie side by side in memory: each is a scan of its own.
//
// A block has a tile, some steps of neighbouring channels, whose maps stay in registers: read once. It shows the map of its whole tile to the blocks of its
// team, the next tiles in time; each composes those of the team's tiles before its own, and applies them to the state that the team starts from, which the
// last block of the team before hands on. So tiles wait for memory once, whatever the length; only from team to team there is a chain.
// Blocks take tickets: one waits only for blocks that have begun before it.
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/primitives/scan.cuh"
#include "kernels/primitives/tagged.cuh"

namespace prnn::PRNN_BACKEND {

/// How the tiles of a launch are numbered, and where their blocks meet; plain values. Neighbouring tickets are neighbouring channels of the same steps.
struct Chain {
  std::int64_t tiles, panels;  // of a sequence; of neighbouring channels
  int lanes, team;             // channels of a panel, tiles of a team
  std::int64_t* tickets;       // only grows
  TaggedWord* maps;            // [tiles, words of a map, panels lanes]
  TaggedWord* starts;          // [teams, words of a state, panels lanes]: what a team starts from
  std::int64_t* nonfinite;     // [tiles panels]
};

/// Where a block stands.
struct ChainPlace {
  std::int64_t tile, panel;
  std::uint32_t launch;
};

/// Shared memory of a block; offsets in bytes from its start, the most aligned first.
template <class C, int K>
struct ChainShared {
  using Map = Affine<C, K>;
  Map* scan;           // [rows, lanes]: of BlockScan
  Map* team;           // [slots, lanes]: compositions of the team's tiles before this one
  State<C, K>* start;  // [lanes]: what the team starts from
  ChainPlace* place;

  static constexpr std::int64_t bytes(int threads, int lanes) {
    return std::int64_t(BlockScan<Map>::shared_maps(threads, lanes) + threads) * std::int64_t(sizeof(Map)) + lanes * std::int64_t(sizeof(State<C, K>)) +
           std::int64_t(sizeof(ChainPlace) + alignof(ChainPlace));
  }
  PRNN_DEVICE explicit ChainShared(int lanes) {
    unsigned char* const first = shared_memory<unsigned char>();
    place = reinterpret_cast<ChainPlace*>(first);
    scan = reinterpret_cast<Map*>(first + (sizeof(ChainPlace) + alignof(ChainPlace) - 1) / alignof(ChainPlace) * alignof(ChainPlace));
    team = scan + BlockScan<Map>::shared_maps(thread_count(), lanes);
    start = reinterpret_cast<State<C, K>*>(team + thread_count());
  }
};

template <class C, int K>
PRNN_DEVICE Affine<C, K> map_of(const C (&u)[K * (K + 1)]) {
  Affine<C, K> map;
  PRNN_UNROLL for (int i = 0; i < K; ++i) {
    PRNN_UNROLL for (int j = 0; j < K; ++j) map.jacobian[i][j] = u[i * (K + 1) + j];
    map.offset[i] = u[i * (K + 1) + K];
  }
  return map;
}

/// x <- map(x).
template <class C, int K>
PRNN_DEVICE void move(const Affine<C, K>& map, State<C, K>& x) {
  C next[K];
  apply(map, x.x, next);
  PRNN_UNROLL for (int i = 0; i < K; ++i) x.x[i] = next[i];
}

/// x <- the state after steps first .. stop - 1, step by step: where a composition has overflowed that the states do not.
template <class Scan, class T>
PRNN_DEVICE void walk_steps(const Layout<Scan>& at, const RecurrenceTensors<T>& t, const Place& place, std::int64_t first, std::int64_t stop,
                            State<compute_t<T>, Scan::kState>& x) {
  const compute_t<T> no_weights[Scan::kWeights] = {};
  PRNN_NO_UNROLL for (std::int64_t l = first; l < stop; ++l) {
    compute_t<T> u[Scan::kInputs], next[Scan::kState];
    load_inputs<Scan>(t.u + at.u(place.b, l, 0, place.d), at.hidden, u);
    Scan::step(x.x, no_weights, u, next);
    PRNN_UNROLL for (int i = 0; i < Scan::kState; ++i) x.x[i] = next[i];
  }
}

template <class Scan, class T>
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostChainedThreads, sizeof(T) == 8 ? 2 : 3) scan_chained_kernel(Layout<Scan> at, RecurrenceTensors<T> t, Chain chain) {
  using C = compute_t<T>;
  constexpr int K = Scan::kState, I = Scan::kInputs, S = chained_steps(K, sizeof(T));
  using Map = Affine<C, K>;
  const int lanes = chain.lanes, lane = thread_index() & (lanes - 1), slot = thread_index() / lanes, slots = thread_count() / lanes;
  const ChainShared<C, K> shared(lanes);
  if (thread_index() == 0) {
    const TicketPlace ticket = place_of_ticket(take_ticket(chain.tickets), block_count());
    const ChainPlace mine{ticket.block / chain.panels, ticket.block % chain.panels, ticket.launch};
    *shared.place = mine;
    chain.nonfinite[ticket.block] = kNowhere;
  }
  barrier();
  const ChainPlace where = *shared.place;
  const std::int64_t pitch = chain.panels * lanes, column = where.panel * lanes + lane;
  const bool exists = column < at.channels();
  const Place place = place_of_channel(at, exists ? column : at.channels() - 1);
  const std::int64_t tile_steps = std::int64_t(slots) * S, first = where.tile * tile_steps, own = first + slot * S;

  // Steps beyond the sequence have maps too; only such steps use them.
  C u[S][I];
  const int left = int(at.seq_len - own < S ? at.seq_len - own : S);  // steps of this thread, or less than one
  const T* from = t.u + at.u(place.b, own, 0, place.d);
  PRNN_UNROLL for (int s = 0; s < S; ++s) {
    PRNN_UNROLL for (int k = 0; k < I; ++k) {
      u[s][k] = s < left ? load(from) : C(0);
      from += at.hidden;
    }
  }
  Map all = map_of<C, K>(u[0]);
  PRNN_UNROLL for (int s = 1; s < S; ++s) all = compose(all, map_of<C, K>(u[s]));
  BlockScan<Map> scan(shared.scan, lanes);
  scan.publish(all);
  barrier();
  const Map before = scan.before();

  // The team: what its tiles before this one make of the state that it starts from.
  const std::int64_t team_index = where.tile / chain.team, team_first = team_index * chain.team;
  const int member = int(where.tile - team_first);
  const bool hands_on = where.tile + 1 < chain.tiles;
  if (exists && slot == slots - 1 && hands_on && member + 1 < chain.team)
    show_tagged(chain.maps + where.tile * kWordsOf<Map> * pitch + column, pitch, slot == 0 ? all : compose(before, all), where.launch);
  const int share = (member + slots - 1) / slots, parts = share == 0 ? 0 : (member + share - 1) / share;
  if (exists && slot < parts) {
    constexpr int kTogether = K == 1 ? 4 : 2;  // that are waited for together
    const int stop = (slot + 1) * share < member ? (slot + 1) * share : member;
    Map part;
    PRNN_NO_UNROLL for (int m = slot * share; m < stop; m += kTogether) {
      Map maps[kTogether];
      see_tagged(maps, stop - m, chain.maps + (team_first + m) * kWordsOf<Map> * pitch + column, kWordsOf<Map> * pitch, pitch, where.launch);
      PRNN_UNROLL for (int i = 0; i < kTogether; ++i) {
        if (m + i < stop) part = m + i == slot * share ? maps[i] : compose(part, maps[i]);
      }
    }
    shared.team[slot * lanes + lane] = part;
  }
  if (exists && slot == slots - 1) {
    State<C, K> start[1];
    if (team_index == 0) {
      PRNN_UNROLL for (int i = 0; i < K; ++i) start[0].x[i] = load(t.h0 + at.edge(place.b, i, place.d));
    } else {
      see_tagged(start, 1, chain.starts + team_index * kWordsOf<State<C, K>> * pitch + column, 0, pitch, where.launch);
    }
    shared.start[lane] = start[0];
  }
  barrier();
  if (!exists) return;
  const State<C, K> team_start = shared.start[lane];
  State<C, K> tile_start = team_start;
  PRNN_NO_UNROLL for (int r = 0; r < parts; ++r) {
    const Map part = shared.team[r * lanes + lane];
    move(part, tile_start);
  }
  if (!all_finite(tile_start.x) && all_finite(team_start.x)) {
    tile_start = team_start;
    walk_steps(at, t, place, team_first * tile_steps, first, tile_start);
  }
  State<C, K> x = tile_start;
  move(before, x);
  if (!all_finite(x.x) && all_finite(tile_start.x)) {
    x = tile_start;
    walk_steps(at, t, place, first, own, x);
  }

  const C no_weights[Scan::kWeights] = {};
  int bad = own == 0 || all_finite(x.x) ? S : -1;  // the first step that is not finite, if the state before this thread's is; S: none
  T* to = t.h + at.h(place.b, own, 0, place.d);
  PRNN_UNROLL for (int s = 0; s < S; ++s) {
    if (s >= left) continue;
    C next[K];
    Scan::step(x.x, no_weights, u[s], next);
    PRNN_UNROLL for (int i = 0; i < K; ++i) {
      x.x[i] = next[i];
      store_streaming(to, next[i]);
      to += at.hidden;
    }
    if (bad == S && !all_finite(next)) bad = s;
  }
  if (bad >= 0 && bad < S) atomic_min(chain.nonfinite + where.tile * chain.panels + where.panel, at.position(place.b, own + bad, place.d));
  if (left > 0 && own + left == at.seq_len) store_last(at, t, place.b, place.d, x.x);
  if (slot == slots - 1 && hands_on && member + 1 == chain.team) show_tagged(chain.starts + (team_index + 1) * kWordsOf<State<C, K>> * pitch + column, pitch, x, where.launch);
}

#ifndef __CUDACC_RTC__
template <class Scan, class T>
class ScanChained final : public Run {
  using C = compute_t<T>;
  static constexpr int K = Scan::kState;

 public:
  static constexpr const char* kName = "scan_chained";
  static constexpr bool kIterates = false, kDeterministic = true;
  static PolicySpace space() {
    return {{.key = "threads", .least = 32, .most = kMostChainedThreads, .powers_of_two = true},
            {.key = "channels_a_block", .most = kMostChainedChannels, .powers_of_two = true},
            team_parameter()};
  }
  static std::int64_t workspace_bytes(const Problem& p) { return Plan(p).bytes(); }

  ScanChained(const Problem& p, Machine& machine) : at_(layout_of<Scan>(p)), plan_(p), machine_(machine), workspace_(machine, plan_.bytes()) {
    machine.fill(workspace_.data(), 0, workspace_.bytes());  // the tickets start from 0, and words from no launch, once
  }
  Policy policy() const override {
    return {{"threads", plan_.policy.threads}, {"channels_a_block", plan_.policy.channels_a_block}, {"blocks_a_team", plan_.policy.blocks_a_team}, {"steps_a_thread", kSteps}};
  }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    prnn::PRNN_BACKEND::launch(&scan_chained_kernel<Scan, T>, plan_.blocks(), plan_.policy.threads, ChainShared<C, K>::bytes(plan_.policy.threads, plan_.policy.channels_a_block),
                               stream, at_, RecurrenceTensors<T>(tensors), chain());
  }
  Outcome outcome() override {
    std::vector<std::int64_t> first(static_cast<std::size_t>(plan_.blocks()));
    machine_.download(first.data(), chain().nonfinite, plan_.blocks() * std::int64_t(sizeof(std::int64_t)));
    return {.nonfinite = place_of(at_, *std::min_element(first.begin(), first.end()))};
  }

 private:
  static constexpr int kSteps = chained_steps(K, sizeof(T));

  struct Plan {
    explicit Plan(const Problem& p)
        : policy(chained_policy(p, K)),
          tiles(ceil_div(p.seq_len, policy.threads / policy.channels_a_block * kSteps)),
          panels(ceil_div(p.batch * p.hidden, policy.channels_a_block)) {}
    std::int64_t blocks() const { return tiles * panels; }
    std::int64_t map_words() const { return tiles * kWordsOf<Affine<C, K>> * panels * policy.channels_a_block; }
    std::int64_t start_words() const { return ceil_div(tiles, policy.blocks_a_team) * kWordsOf<State<C, K>> * panels * policy.channels_a_block; }
    std::int64_t bytes() const { return std::int64_t(sizeof(std::int64_t)) * (1 + blocks()) + std::int64_t(sizeof(TaggedWord)) * (map_words() + start_words()); }

    ChainedPolicy policy;
    std::int64_t tiles, panels;
  };
  Chain chain() const {
    std::int64_t* const tickets = workspace_.as<std::int64_t>();
    TaggedWord* const maps = reinterpret_cast<TaggedWord*>(tickets + 1 + plan_.blocks());
    return {plan_.tiles, plan_.panels, plan_.policy.channels_a_block, plan_.policy.blocks_a_team, tickets, maps, maps + plan_.map_words(), tickets + 1};
  }

  const Layout<Scan> at_;
  const Plan plan_;
  Machine& machine_;
  const Buffer workspace_;
};

PRNN_REGISTER_SCAN_SOLVER(ScanChained, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
