// scan_chained.cu: the affine scan of every channel in one pass over memory, by tiles that are all under way at once (op reduction).
//   u [B, L, K, K + 1, D] (rows of J, then r), h0 [B, K, D] -> h [B, L, K, D], last [B, K, D]
// Merrill and Garland 2016, "Single-pass parallel prefix scan with decoupled look-back", with a fixed order of compositions, so that results are bitwise the
// same on every run, and with channels that lie side by side in memory: each is a scan of its own.
//
// A tile, some steps of neighbouring channels, is read once, into shared memory, where a block always has the next ones on their way. Each thread composes the
// maps of a few steps in a row; the map of the whole tile is shown to the blocks that have the team's next tiles in time; each composes those of the team's
// tiles before its own, applies them to the state that the team starts from, which the last tile of the team before hands on, and takes the same steps again,
// now of a state. So tiles wait for memory once, whatever the length; only from team to team there is a chain.
// Tiles are given out as tickets, those of the same steps one after another: a block waits only for tiles with lower tickets, and each block takes its own in
// order, so that the lowest that is not done never waits.
#include "kernels/primitives/affine.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"
#include "kernels/primitives/register.hpp"
#include "kernels/primitives/scan.cuh"
#include "kernels/primitives/stream.cuh"
#include "kernels/primitives/tagged.cuh"

namespace prnn::PRNN_BACKEND {

/// How the tiles of a launch are numbered, and where their blocks meet; plain values.
struct Chain {
  std::int64_t tiles, panels, groups;  // of a sequence; of neighbouring channels, of all sequences and of one
  int lanes, steps, team, stages;      // channels of a panel, steps of a thread, tiles of a team, tiles in shared memory
  std::int64_t tickets_a_launch;       // one for each tile, and those that blocks hold in vain at the end
  std::int64_t* tickets;               // only grows
  TaggedWord* maps;                    // [tiles, words of a map, panels lanes]
  TaggedWord* starts;                  // [teams, words of a state, panels lanes]: what a team starts from
  std::int64_t* nonfinite;             // [blocks]
};

/// A tile; none if its number is not less than the sequence's.
struct ChainPlace {
  std::int64_t tile, panel, b, d;  // d: the panel's first channel
};

/// n / d of what is not negative: of 64 bits it takes a hundred instructions.
PRNN_DEVICE std::int64_t quotient(std::int64_t n, std::int64_t d) { return ((n | d) >> 32) != 0 ? n / d : std::int64_t(unsigned(n) / unsigned(d)); }

PRNN_DEVICE ChainPlace place_of_tile(const Chain& chain, std::int64_t number) {
  ChainPlace place;
  place.tile = quotient(number, chain.panels);
  place.panel = number - place.tile * chain.panels;
  place.b = quotient(place.panel, chain.groups);
  place.d = (place.panel - place.b * chain.groups) * chain.lanes;
  return place;
}

/// Shared memory of a block, the most aligned first.
template <class C, int K, class T>
struct ChainShared {
  using Map = Affine<C, K>;
  T* ring;               // [stages, steps of a tile, K (K + 1), lanes]
  ChainPlace* places;    // [stages]
  PhaseBarrier* landed;  // [stages]
  TicketPlace* first;    // the block's first ticket
  Map* scan;             // [rows, lanes]: of BlockScan
  Map* team;             // [slots, lanes]: compositions of the team's tiles before this one
  State<C, K>* start;    // [lanes]: what the team starts from

  static constexpr std::int64_t bytes(const ChainedPolicy& policy) {
    return policy.stages * (chained_tile_bytes(policy, K, sizeof(T)) + std::int64_t(sizeof(ChainPlace) + sizeof(PhaseBarrier))) + std::int64_t(sizeof(TicketPlace)) +
           std::int64_t(BlockScan<Map>::shared_maps(policy.threads, policy.channels_a_block) + policy.threads) * std::int64_t(sizeof(Map)) +
           policy.channels_a_block * std::int64_t(sizeof(State<C, K>));
  }
  PRNN_DEVICE explicit ChainShared(const Chain& chain)
      : ring(shared_memory<T>()),
        places(reinterpret_cast<ChainPlace*>(ring + chain.stages * tile_words(chain))),
        landed(reinterpret_cast<PhaseBarrier*>(places + chain.stages)),
        first(reinterpret_cast<TicketPlace*>(landed + chain.stages)),
        scan(reinterpret_cast<Map*>(first + 1)),
        team(scan + BlockScan<Map>::shared_maps(thread_count(), chain.lanes)),
        start(reinterpret_cast<State<C, K>*>(team + thread_count())) {}
  PRNN_DEVICE static int tile_words(const Chain& chain) { return thread_count() * chain.steps * K * (K + 1); }
};

/// Tiles on their way to shared memory: by the machine's copies of tiles, or each thread its own steps, a number at a time, whatever rows there are.
template <class Scan, class T>
class MapRing {
 public:
  using Shared = ChainShared<compute_t<T>, Scan::kState, T>;
  static constexpr int I = Scan::kInputs;

  PRNN_DEVICE MapRing(const Layout<Scan>& at, const T* u, const TileMap& map, bool in_tiles, const Chain& chain, const Shared& shared)
      : at_(at),
        u_(u),
        map_(map),
        chain_(chain),
        shared_(shared),
        in_tiles_(in_tiles),
        own_(thread_index() / chain.lanes * chain.steps),
        lane_(thread_index() & (chain.lanes - 1)) {}

  /// Before the first tile; a barrier of the caller's follows.
  PRNN_DEVICE void start() const {
    if (!in_tiles_ || thread_index() != 0) return;
    for (int stage = 0; stage < chain_.stages; ++stage) start_phases(shared_.landed + stage, copies());
  }
  /// The tile of shared.places[stage], by all threads, none of which may still read that stage.
  PRNN_DEVICE void send(int stage) const {
    const ChainPlace& where = shared_.places[stage];
    const std::int64_t first = where.tile * tile();
    if (in_tiles_) {
      if (thread_index() != 0 || where.tile >= chain_.tiles) return;
      PRNN_NO_UNROLL for (int step = 0; step < tile(); step += box())
          arrive_with_tile(shared_.landed + stage, shared_.ring + stage * shared_.tile_words(chain_) + step * I * chain_.lanes, map_, where.b, (first + step) * I, where.d);
      return;
    }
    if (where.tile < chain_.tiles) {
      const std::int64_t d = where.d + lane_ < at_.hidden ? where.d + lane_ : at_.hidden - 1;
      const std::int64_t left = (at_.seq_len - first - own_) * I;
      const T* from = u_ + at_.u(where.b, first + own_, 0, d);
      T* const to = shared_.ring + stage * shared_.tile_words(chain_) + own_ * I * chain_.lanes + lane_;
      PRNN_NO_UNROLL for (int row = 0; row < chain_.steps * I; ++row, from += at_.hidden) {
        if (row < left) {
          copy_async(to + row * chain_.lanes, from);
        } else {
          to[row * chain_.lanes] = T{};  // as tiles have it beyond the matrix
        }
      }
    }
    commit_copies();
  }
  /// Until the tile of a stage has landed. parity: of the rounds through the ring.
  PRNN_DEVICE void wait(int stage, int parity) const {
    if (in_tiles_) return wait_phase(shared_.landed + stage, parity);
    switch (chain_.stages) {  // every tile that was sent for since is a group
      case 1: return wait_copies<0>();
      case 2: return wait_copies<1>();
      case 3: return wait_copies<2>();
      default: return wait_copies<3>();
    }
  }
  /// f(s, u) for the maps u [K, K + 1] of this thread's steps s.
  template <class F>
  PRNN_DEVICE void each_step(int stage, F&& f) const {
    constexpr int kTogether = sizeof(compute_t<T>) == 8 ? (I > 2 ? 1 : 4) : I > 2 ? 4 : 8;  // that are read at once
    const T* words = shared_.ring + stage * shared_.tile_words(chain_) + own_ * I * chain_.lanes + lane_;
    PRNN_NO_UNROLL for (int s = 0; s < chain_.steps; s += kTogether) {
      compute_t<T> u[kTogether][I];
      PRNN_UNROLL for (int i = 0; i < kTogether; ++i) {
        PRNN_UNROLL for (int k = 0; k < I; ++k) u[i][k] = s + i < chain_.steps ? widen(words[(i * I + k) * chain_.lanes]) : compute_t<T>(0);
      }
      PRNN_UNROLL for (int i = 0; i < kTogether; ++i) {
        if (s + i < chain_.steps) f(s + i, u[i]);
      }
      words += kTogether * I * chain_.lanes;
    }
  }
  PRNN_DEVICE int tile() const { return thread_count() / chain_.lanes * chain_.steps; }
  /// Steps of a copy.
  PRNN_HD static constexpr int box(int tile) {
    int steps = tile;
    while (steps * I > kMostTileRows) steps /= 2;
    return steps;
  }

 private:
  PRNN_DEVICE int box() const { return box(tile()); }
  PRNN_DEVICE int copies() const { return tile() / box(); }

  const Layout<Scan>& at_;
  const T* const u_;
  const TileMap& map_;
  const Chain& chain_;
  const Shared& shared_;
  const bool in_tiles_;
  const int own_, lane_;  // the first of this thread's steps in a tile, its channel of the panel
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
PRNN_KERNEL PRNN_LAUNCH_BOUNDS(kMostChainedThreads, 1)
    scan_chained_kernel(Layout<Scan> at, RecurrenceTensors<T> t, PRNN_GRID_CONSTANT const TileMap map, bool in_tiles, PRNN_GRID_CONSTANT const Chain chain) {
  using C = compute_t<T>;
  constexpr int K = Scan::kState, I = Scan::kInputs;
  using Map = Affine<C, K>;
  const int lanes = chain.lanes, lane = thread_index() & (lanes - 1), slot = thread_index() / lanes, slots = thread_count() / lanes, S = chain.steps;
  const std::int64_t tile_steps = std::int64_t(slots) * S, pitch = chain.panels * lanes;
  const ChainShared<C, K, T> shared(chain);
  const MapRing<Scan, T> ring(at, t.u, map, in_tiles, chain, shared);
  BlockScan<Map> scan(shared.scan, lanes);
  const C no_weights[Scan::kWeights] = {};

  std::int64_t first_ticket = 0;  // of the launch; thread 0 alone has tickets
  ring.start();
  if (thread_index() == 0) {
    chain.nonfinite[block_index()] = kNowhere;
    const std::int64_t ticket = take_ticket(chain.tickets);
    const TicketPlace mine = place_of_ticket(ticket, chain.tickets_a_launch);
    *shared.first = mine;
    first_ticket = ticket - mine.block;
    const ChainPlace place = place_of_tile(chain, mine.block);
    shared.places[0] = place;
  }
  barrier();
  const std::uint32_t launch = shared.first->launch;
  ring.send(0);
  if (thread_index() == 0) {
    PRNN_NO_UNROLL for (int stage = 1; stage < chain.stages; ++stage) {
      const ChainPlace place = place_of_tile(chain, take_ticket(chain.tickets) - first_ticket);
      shared.places[stage] = place;
    }
  }
  barrier();
  PRNN_NO_UNROLL for (int stage = 1; stage < chain.stages; ++stage) ring.send(stage);

  int stage = 0, parity = 0;
  for (;;) {
    const ChainPlace where = shared.places[stage];
    if (where.tile >= chain.tiles) break;
    std::int64_t next_ticket = 0;
    if (thread_index() == 0) next_ticket = take_ticket(chain.tickets);  // comes while the tile is computed
    const std::int64_t first = where.tile * tile_steps, own = first + slot * S, column = where.panel * lanes + lane, d = where.d + lane;
    const bool exists = d < at.hidden;
    const Place place{where.b, exists ? d : at.hidden - 1};
    ring.wait(stage, parity);

    // Steps beyond the sequence have maps too; only such steps use them.
    Map all = Map::identity();
    ring.each_step(stage, [&](int s, const C(&u)[I]) {
      const Map step = map_of<C, K>(u);
      all = s == 0 ? step : compose(all, step);
    });
    scan.publish(all);
    barrier();
    const Map before = scan.before();

    // The team: what its tiles before this one make of the state that it starts from.
    const std::int64_t team_index = quotient(where.tile, chain.team), team_first = team_index * chain.team;
    const int member = int(where.tile - team_first);
    const bool hands_on = where.tile + 1 < chain.tiles;
    if (exists && slot == slots - 1 && hands_on && member + 1 < chain.team)
      show_tagged(chain.maps + where.tile * kWordsOf<Map> * pitch + column, pitch, slot == 0 ? all : compose(before, all), launch);
    const int share = (member + slots - 1) / slots, parts = share == 0 ? 0 : (member + share - 1) / share;
    if (exists && slot < parts) {
      constexpr int kTogether = K == 1 ? 4 : 2;  // that are waited for together
      const int stop = (slot + 1) * share < member ? (slot + 1) * share : member;
      Map part = Map::identity();
      PRNN_NO_UNROLL for (int m = slot * share; m < stop; m += kTogether) {
        Map maps[kTogether];
        see_tagged(maps, stop - m, chain.maps + (team_first + m) * kWordsOf<Map> * pitch + column, kWordsOf<Map> * pitch, pitch, launch);
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
        see_tagged(start, 1, chain.starts + team_index * kWordsOf<State<C, K>> * pitch + column, 0, pitch, launch);
      }
      shared.start[lane] = start[0];
    }
    if (thread_index() == 0) {
      const ChainPlace next = place_of_tile(chain, next_ticket - first_ticket);
      shared.places[stage] = next;
    }
    barrier();

    if (exists) {
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

      const int left = int(at.seq_len - own < S ? at.seq_len - own : S);  // steps of this thread, or less than one
      int bad = own == 0 || all_finite(x.x) ? S : -1;                     // the first step that is not finite, if the state before this thread's is; S: none
      T* to = t.h + at.h(place.b, own, 0, place.d);
      ring.each_step(stage, [&](int s, const C(&u)[I]) {
        if (s >= left) return;
        C next[K];
        Scan::step(x.x, no_weights, u, next);
        PRNN_UNROLL for (int i = 0; i < K; ++i) {
          x.x[i] = next[i];
          store_streaming(to, next[i]);
          to += at.hidden;
        }
        if (bad == S && !all_finite(next)) bad = s;
      });
      if (bad >= 0 && bad < S) atomic_min(chain.nonfinite + block_index(), at.position(place.b, own + bad, place.d));
      if (left > 0 && own + left == at.seq_len) store_last(at, t, place.b, place.d, x.x);
      if (slot == slots - 1 && hands_on && member + 1 == chain.team) show_tagged(chain.starts + (team_index + 1) * kWordsOf<State<C, K>> * pitch + column, pitch, x, launch);
    }
    barrier();
    ring.send(stage);
    if (++stage == chain.stages) stage = 0, parity ^= 1;
  }
}

#ifndef __CUDACC_RTC__
template <class Scan, class T>
class ScanChained final : public Run {
  using C = compute_t<T>;
  static constexpr int K = Scan::kState, I = Scan::kInputs;

 public:
  static constexpr const char* kName = "scan_chained";
  static constexpr bool kIterates = false, kDeterministic = true;
  static PolicySpace space() {
    return {{.key = "threads", .least = 32, .most = kMostChainedThreads, .powers_of_two = true},
            {.key = "channels_a_block", .most = kMostChainedChannels, .powers_of_two = true},
            {.key = "steps_a_thread", .most = kMostChainedSteps, .powers_of_two = true},
            {.key = "tiles_a_team", .most = kMostChainedTeam},
            {.key = "stages", .most = kMostChainedStages}};
  }
  static std::string why_not(const Problem& p) { return chained_fault(p, K); }
  static std::int64_t workspace_bytes(const Problem& p) { return Plan(p).bytes(); }

  ScanChained(const Problem& p, Machine& machine)
      : at_(layout_of<Scan>(p)),
        plan_(p),
        in_tiles_(is_hopper(machine) && p.hidden * std::int64_t(sizeof(T)) % 16 == 0 && plan_.policy.channels_a_block * int(sizeof(T)) >= 16 && p.seq_len < kMostTiledSteps),
        blocks_(std::min(plan_.most_blocks(), resident_blocks(&scan_chained_kernel<Scan, T>, plan_.policy.threads, Shared::bytes(plan_.policy)))),
        machine_(machine),
        workspace_(machine, plan_.bytes()) {
    machine.fill(workspace_.data(), 0, workspace_.bytes());  // the tickets start from 0, and words from no launch, once
  }
  Policy policy() const override {
    return {{"threads", plan_.policy.threads},
            {"channels_a_block", plan_.policy.channels_a_block},
            {"steps_a_thread", plan_.policy.steps_a_thread},
            {"tiles_a_team", plan_.policy.tiles_a_team},
            {"stages", plan_.policy.stages},
            {"tiles", in_tiles_}};
  }
  int launches() const override { return 1; }
  void launch(const Tensors& tensors, Stream stream) override {
    const RecurrenceTensors<T> t(tensors);
    TileMap map{};
    if (in_tiles_) map = tile_map(t.u, at_.batch, at_.seq_len * I, at_.hidden, MapRing<Scan, T>::box(plan_.policy.tile()) * I, plan_.policy.channels_a_block);
    prnn::PRNN_BACKEND::launch(&scan_chained_kernel<Scan, T>, blocks_, plan_.policy.threads, Shared::bytes(plan_.policy), stream, at_, t, map, in_tiles_, chain());
  }
  Outcome outcome() override {
    std::vector<std::int64_t> first(static_cast<std::size_t>(blocks_));
    machine_.download(first.data(), chain().nonfinite, blocks_ * std::int64_t(sizeof(std::int64_t)));
    return {.nonfinite = place_of(at_, *std::min_element(first.begin(), first.end()))};
  }

 private:
  using Shared = ChainShared<C, K, T>;

  struct Plan {
    explicit Plan(const Problem& p)
        : policy(chained_policy(p, K)), tiles(ceil_div(p.seq_len, policy.tile())), groups(ceil_div(p.hidden, policy.channels_a_block)), panels(p.batch * groups) {}
    std::int64_t most_blocks() const { return std::min(tiles * panels, kMostChainedBlocks); }
    std::int64_t map_words() const { return tiles * kWordsOf<Affine<C, K>> * panels * policy.channels_a_block; }
    std::int64_t start_words() const { return ceil_div(tiles, policy.tiles_a_team) * kWordsOf<State<C, K>> * panels * policy.channels_a_block; }
    std::int64_t bytes() const { return std::int64_t(sizeof(std::int64_t)) * (1 + most_blocks()) + std::int64_t(sizeof(TaggedWord)) * (map_words() + start_words()); }

    ChainedPolicy policy;
    std::int64_t tiles, groups, panels;
  };
  Chain chain() const {
    std::int64_t* const tickets = workspace_.as<std::int64_t>();
    TaggedWord* const maps = reinterpret_cast<TaggedWord*>(tickets + 1 + plan_.most_blocks());
    const std::int64_t tiles = plan_.tiles * plan_.panels;
    const int stages = int(std::min<std::int64_t>(plan_.policy.stages, ceil_div(tiles, blocks_)));  // no block holds what another could begin
    return {plan_.tiles,
            plan_.panels,
            plan_.groups,
            plan_.policy.channels_a_block,
            plan_.policy.steps_a_thread,
            plan_.policy.tiles_a_team,
            stages,
            tiles + blocks_ * stages,
            tickets,
            maps,
            maps + plan_.map_words(),
            tickets + 1};
  }

  const Layout<Scan> at_;
  const Plan plan_;
  const bool in_tiles_;
  const std::int64_t blocks_;
  Machine& machine_;
  const Buffer workspace_;
};

PRNN_REGISTER_SCAN_SOLVER(ScanChained, kDevice);

#endif  // __CUDACC_RTC__

}  // namespace prnn::PRNN_BACKEND
