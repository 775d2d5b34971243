<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;
use Ws2Api\CacheKeyStore;
use Ws2Api\Claim;
use Ws2Api\FileKeyStore;
use Ws2Api\KeyStore;

final class KeyStoreTest extends TestCase
{
    private string $folder;

    protected function setUp(): void
    {
        $this->folder = sys_get_temp_dir() . '/ws2api-keys-' . bin2hex(random_bytes(8));
    }

    protected function tearDown(): void
    {
        array_map(unlink(...), glob("$this->folder/*"));
        is_dir($this->folder) && rmdir($this->folder);
    }

    public function testAKeyIsClaimedOnceUntilItIsReleased(): void
    {
        foreach ([new CacheKeyStore(new MemoryCache()), new FileKeyStore($this->folder)] as $store) {
            self::assertSame(Claim::Fresh, $store->claim('a/{b}'));
            self::assertSame(Claim::Running, $store->claim('a/{b}'));
            self::assertSame(Claim::Fresh, $store->claim('another'));
            $store->release('a/{b}');
            self::assertSame(Claim::Fresh, $store->claim('a/{b}'));
            $store->keep('a/{b}');
            self::assertSame(Claim::Done, $store->claim('a/{b}'));
        }
    }

    public function testAClaimOfAProcessThatDiedIsGivenUp(): void
    {
        $cache = new MemoryCache();
        $store = new CacheKeyStore($cache, 120, 20);
        $store->claim('k');
        $cache->now = 21;
        self::assertSame(Claim::Fresh, $store->claim('k'));

        $store = new FileKeyStore($this->folder, 120, 20);
        $store->claim('k');
        $this->age(21);
        self::assertSame(Claim::Fresh, $store->claim('k'));
    }

    public function testFilesAreForgottenInTheEnd(): void
    {
        $store = new FileKeyStore($this->folder, 120, 20);
        $store->claim('k');
        $store->keep('k');
        $this->age(119);
        self::assertSame(Claim::Done, $store->claim('k'));
        $this->age(122);
        self::assertSame(Claim::Fresh, $store->claim('k'));
        $this->age(122);
        for ($number = 0; $number < 3000; ++$number) {
            $store->claim("other $number");
        }
        self::assertFileDoesNotExist("$this->folder/" . hash('sha256', 'k'));
    }

    public function testOneOfManyProcessesGetsAKey(): void
    {
        new FileKeyStore($this->folder);
        $code = 'require $argv[1]; echo (new Ws2Api\FileKeyStore($argv[2]))->claim("k")->name, "\n";';
        $command = [PHP_BINARY, '-r', $code, __DIR__ . '/../autoload.php', $this->folder];
        $outputs = $processes = [];
        for ($number = 0; $number < 8; ++$number) {
            $processes[] = proc_open($command, [1 => ['pipe', 'w']], $pipes);
            $outputs[] = $pipes[1];
        }
        $claims = array_map(static fn ($output): string => trim(stream_get_contents($output)), $outputs);
        array_map(proc_close(...), $processes);
        self::assertSame(['Fresh' => 1, 'Running' => 7], self::counted($claims));
    }

    /** @param list<string> $names @return array<string, int> */
    private static function counted(array $names): array
    {
        $counts = array_count_values($names);
        ksort($counts);
        return $counts;
    }

    private function age(int $seconds): void
    {
        foreach (glob("$this->folder/*") as $file) {
            touch($file, time() - $seconds);
        }
    }
}
