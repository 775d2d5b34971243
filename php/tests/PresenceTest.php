<?php

declare(strict_types=1);

namespace Ws2Api\Tests;

use PHPUnit\Framework\TestCase;

require_once __DIR__ . '/../../examples/app/presence.php';

/** The example's answer to "who is online?". */
final class PresenceTest extends TestCase
{
    private const RUN = '11111111001';

    private string $folder;
    private \Presence $presence;

    protected function setUp(): void
    {
        $this->folder = sys_get_temp_dir() . '/ws2api-presence-' . bin2hex(random_bytes(8));
        $this->presence = new \Presence($this->folder);
    }

    protected function tearDown(): void
    {
        array_map(unlink(...), glob("$this->folder/*"));
        rmdir($this->folder);
    }

    public function testTheEndOfAnOldConnectionDoesNotEndTheNewOne(): void
    {
        $this->presence->came('CP 1', self::RUN . '000000001');
        $this->presence->came('CP 1', self::RUN . '000000002');
        $this->presence->went('CP 1', self::RUN . '000000001');
        self::assertSame(['CP 1' => self::RUN . '000000002'], $this->online());
        $this->presence->went('CP 1', self::RUN . '000000002');
        self::assertSame([], $this->online());
    }

    public function testANewStartEndsWhatTheOldOneLeft(): void
    {
        $this->presence->came('CP1', self::RUN . '000000001');
        $this->presence->came('CP2', self::RUN . '000000002');
        $this->presence->came('CP3', '22222222001000000001');
        self::assertSame(['CP3' => '22222222001000000001'], $this->online());
    }

    public function testAnUpgradeEndsNothing(): void
    {
        // The second process that the line has: its number stands behind the shard's three digits.
        $this->presence->came('CP1', self::RUN . '000000001');
        $this->presence->came('CP2', self::RUN . '010000000');
        self::assertSame(['CP1' => self::RUN . '000000001', 'CP2' => self::RUN . '010000000'], $this->online());
    }

    public function testAskingFindsWhatEventsHaveMissed(): void
    {
        $this->presence->came('CP1', self::RUN . '000000001');
        $this->presence->came('CP2', self::RUN . '000000002');
        $list = (function (): \Generator {
            yield ['clientId' => 'CP2', 'connectionId' => self::RUN . '000000002', 'since' => '2026-11-22T22:06:10.637Z'];
            // While the pages are turned, a client comes.
            $this->presence->came('CP3', self::RUN . '000000003');
            yield ['clientId' => 'CP4', 'connectionId' => self::RUN . '000000004', 'since' => '2026-11-22T22:06:10.637Z'];
        })();
        self::assertSame(['forgotten' => 1, 'found' => 1], $this->presence->reconcile($list, 0.0));
        $expected = ['CP2' => self::RUN . '000000002', 'CP3' => self::RUN . '000000003', 'CP4' => self::RUN . '000000004'];
        self::assertSame($expected, $this->online());
    }

    public function testWhoHasJustComeNeedNotBeListedYet(): void
    {
        $this->presence->came('CP1', self::RUN . '000000002');
        $old = [['clientId' => 'CP1', 'connectionId' => self::RUN . '000000001', 'since' => '2020-01-01T00:00:00.000Z']];
        $this->presence->reconcile($old);
        self::assertSame(['CP1' => self::RUN . '000000002'], $this->online());
        $this->presence->reconcile([], 0.0);
        self::assertSame([], $this->online());
    }

    /** @return array<string, string> ClientId to connection id */
    private function online(): array
    {
        $online = array_column($this->presence->online(), 'connectionId', 'clientId');
        ksort($online);
        return $online;
    }
}
