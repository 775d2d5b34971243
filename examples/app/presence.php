<?php

// Who is online, by what ws2api tells: a file for each client, with the id of its connection. In earnest that is a table.
//
// 1. /connect: we said ok to this connection. It may still come to nothing, which nobody tells.
// 2. /disconnect: only what has the same connection id ends. A client that comes back is here before its old connection is gone.
// 3. Every start of ws2api draws new connection ids, whose first eight digits are the start's. What an older start of the same
//    node left behind ended with it; after a crash no /disconnect says so.
// 4. GET /clients, from time to time: what it does not list is gone, but for who came in the last half minute: /connect is a
//    little before the connection.
//
// `ws2api upgrade` is no start: the new process goes on with the connections of the old one, and gives new ones the same eight digits.
//
// With several nodes, a new start does not tell which old one it follows: leave 3 out, and let 4 ask every node's own ingress.

declare(strict_types=1);

final class Presence
{
    public function __construct(private readonly string $folder)
    {
        if (!is_dir($folder) && !@mkdir($folder, 0700, true) && !is_dir($folder)) {
            throw new RuntimeException("$folder can't be made");
        }
    }

    public function came(string $client, string $connection): void
    {
        $this->change($client, static fn (): array => [
            'clientId' => $client,
            'connectionId' => $connection,
            'since' => microtime(true),
        ]);
        if ($this->isNewRun($connection)) {
            $this->forget(static fn (array $entry): bool => self::run($entry['connectionId']) !== self::run($connection));
        }
    }

    public function went(string $client, string $connection): void
    {
        $this->change($client, static fn (?array $entry): ?array => ($entry['connectionId'] ?? '') === $connection ? null : $entry);
    }

    /** @return list<array{clientId: string, connectionId: string, since: float}> */
    public function online(): array
    {
        $entries = array_map(static fn (string $file): string => (string) @file_get_contents($file), glob("$this->folder/*.json"));
        return array_values(array_filter(array_map(static fn (string $text): mixed => json_decode($text, true), $entries)));
    }

    /**
     * @param iterable<array<string, mixed>> $clients what `GET /clients` lists
     * @param float $grace seconds that a new entry need not be listed
     * @return array{forgotten: int, found: int}
     */
    public function reconcile(iterable $clients, float $grace = 30.0): array
    {
        $asked = microtime(true) - $grace;
        $connections = $known = [];
        foreach ($this->online() as $entry) {
            $known[$entry['connectionId']] = true;
        }
        $found = 0;
        foreach ($clients as $client) {
            $connections[$client['connectionId']] = true;
            if (!isset($known[$client['connectionId']])) {
                // An event that was lost: the entry is older, or there is none.
                $since = (float) (new DateTimeImmutable($client['since']))->format('U.u');
                $new = ['clientId' => $client['clientId'], 'connectionId' => $client['connectionId'], 'since' => $since];
                $this->change($client['clientId'], static fn (?array $entry): array => ($entry['since'] ?? 0) > $since ? $entry : $new);
                ++$found;
            }
        }
        $forgotten = $this->forget(
            static fn (array $entry): bool => $entry['since'] < $asked && !isset($connections[$entry['connectionId']]),
        );
        return ['forgotten' => $forgotten, 'found' => $found];
    }

    /** @param Closure(array<string, mixed>): bool $isGone */
    private function forget(Closure $isGone): int
    {
        $count = 0;
        foreach ($this->online() as $entry) {
            if ($isGone($entry)) {
                $this->went($entry['clientId'], $entry['connectionId']);
                ++$count;
            }
        }
        return $count;
    }

    /** True for the first who meets a connection of this start. */
    private function isNewRun(string $connection): bool
    {
        $handle = @fopen("$this->folder/run-" . self::run($connection), 'x');
        return $handle !== false && fclose($handle);
    }

    private static function run(string $connection): string
    {
        return substr($connection, 0, 8);
    }

    /** @param Closure(?array<string, mixed>): ?array<string, mixed> $change null: there is none */
    private function change(string $client, Closure $change): void
    {
        $handle = fopen("$this->folder/" . hash('sha256', $client) . '.json', 'c+');
        flock($handle, LOCK_EX);
        $entry = $change(json_decode((string) stream_get_contents($handle), true));
        ftruncate($handle, 0);
        rewind($handle);
        fwrite($handle, $entry === null ? '' : json_encode($entry));
        fclose($handle);
    }
}
